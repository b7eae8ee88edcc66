"""The monitor and the guard: what is wrong is named, what is not is left alone, and a resumed run is the same run."""

import json
import math
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from support import tiny, tiny_run
from support.tiny_trainer import Plain, resumed, trainer, weights
from support.written_runs import write_run

from semiseg.config.options import TrainOptions
from semiseg.config.recipe import load_config
from semiseg.data.sets.scenes import CLASSES as CLASSES_OF_SCENES
from semiseg.parts.predictor import Predictor
from semiseg.runtime.progress import Progress
from semiseg.runtime.stopping import Stopped
from semiseg.training import health
from semiseg.training.baseline import Baseline, most_lost
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.health import Concern, Monitor, Prior, of_fall, of_looks, of_teacher, weighed
from semiseg.training.keeping import State
from semiseg.training.record import Record, read_record
from semiseg.types import IGNORE, StepResult

CLASSES = ("road", "car", "pole")
PRIOR = Prior(np.array([0.7, 0.28, 0.02]), np.array([1.0, 0.9, 0.5]), np.array([1.0, 1.0, 1.0]))


class Masks:
    """A set of masks, as the monitor reads it."""

    def __init__(self, *masks):
        self.masks = [np.array(mask, np.uint8) for mask in masks]
        self.read = []

    def __len__(self):
        return len(self.masks)

    def mask(self, index):
        self.read.append(index)
        return self.masks[index]


def look(*pixels, crops=8, kept=1.0):
    """What a look saw: pixels of each class, of which so many were kept."""
    return [float(crops), *map(float, pixels), *(kept * each for each in pixels)]


def causes(looks, prior=PRIOR, threshold=0.8):
    return [each.cause for each in of_looks(looks, prior, CLASSES, threshold)]


# The pseudo-labels


def test_the_prior_is_of_the_labelled_pixels():
    prior = Prior.of(Masks([[0, 0, 1, IGNORE]], [[0, 0, 0, 0]], [[IGNORE] * 4]), 3)
    assert prior.share.tolist() == pytest.approx([6 / 7, 1 / 7, 0])
    assert prior.shown.tolist() == [1, 0.5, 0]
    assert prior.other.tolist() == [0.5, 1, 1]


def test_of_many_masks_some_are_read_from_end_to_end():
    masks = Masks(*([[0, 1]] for _ in range(1000)))
    Prior.of(masks, 2)
    assert len(masks.read) == health.MASKS
    assert {0, 999} <= set(masks.read)


def test_pseudo_labels_of_one_class_are_named_at_once():
    (found,) = of_looks([look(700, 280, 20), look(1000, 0, 0)], PRIOR, CLASSES, 0.8)
    assert found.collapse
    assert found.cause == "one class: road"
    assert found.words == (
        "the pseudo-labels are almost all 'road': 100.0% of the unlabelled pixels, 70.0% of the labelled"
    )


@pytest.mark.parametrize(
    "looks",
    [
        [look(700, 280, 20)],
        [look(850, 140, 10)],  # the others have halved
        [look(1000, 0, 0, crops=7)],  # too few crops to tell
        [look(700, 300, 0)] * 5,  # 40 crops, of which 20 should show a pole
    ],
)
def test_what_may_be_chance_is_no_warning(looks):
    assert causes(looks) == []


def test_a_class_that_is_gone_is_named_after_many_crops():
    assert causes([look(700, 300, 0)] * 6) == ["gone: pole"]
    assert causes([look(700, 298, 2.1)] * 6) == []
    scarce = Prior(np.array([0.72, 0.276, 0.004]), PRIOR.shown, PRIOR.other)
    assert causes([look(700, 300, 0)] * 6, scarce) == []


def test_where_none_is_kept_the_threshold_is_named():
    (found,) = of_looks([look(700, 280, 20, kept=0.001)], PRIOR, CLASSES, 0.95)
    assert "0.10% of their pixels reach the threshold of 0.95" in found.words
    assert not found.collapse
    assert causes([look(700, 280, 20, kept=0.001)], threshold=None) == []


# Scores


def scored(miou, **iou):
    return {"headline": "linear", "miou": miou, "linear": {"miou": miou, "iou": iou}}


def test_a_teacher_below_its_student_is_named():
    hidden = {"hidden_labels": {"miou": {"teacher": 40.0, "student": 46.0}}}
    assert [(each.cause, each.collapse) for each in of_teacher(hidden)] == [("teacher", False)]
    hidden["hidden_labels"]["miou"]["student"] = 44.0
    assert of_teacher(hidden) == []
    views = {"labeled_views": {"student": {"loss": 0.2}, "teacher": {"loss": 1.0}}}
    assert [(each.cause, each.collapse) for each in of_teacher(views)] == [("teacher", True)]
    assert of_teacher({"labeled_views": {"student": {"loss": 0.5}, "teacher": {"loss": 1.0}}}) == []
    assert of_teacher({"labeled_views": {"student": {"loss": 0.5}}}) == []


def test_a_fall_names_the_classes_that_fell():
    (found,) = of_fall(scored(40.0, road=80.0, car=0.0), {"road": 82.0, "car": 60.0}, 50.0)
    assert found.words == "the score has fallen from 50.0 to 40.0 mIoU; IoU of 'car' 60 to 0, 'road' 82 to 80"
    assert not found.collapse, "the guard would follow validation scores"
    assert of_fall(scored(43.0), {}, 50.0) == []
    assert of_fall(scored(43.0), {}, -math.inf) == []


def test_the_baseline_is_held_against_at_equal_step(tmp_path):
    run = write_run(tmp_path / "alone", mious=(40.0, 52.5, 60.0))
    found = Baseline.read(run, 25, 100)
    (concern,) = found.concerns(scored(42.0, star=20.0, ring=51.0), 50, 5.0)
    assert "42.0 mIoU, 52.5 without the unlabelled ones; IoU of 'star'" in concern.words
    assert not concern.collapse, "the guard would follow validation scores"
    assert found.concerns(scored(48.0), 50, 5.0) == []
    assert found.concerns(scored(10.0), 60, 5.0) == []
    with pytest.raises(ValueError, match="evaluated at the steps 25, 50, 75, and this run at every 40"):
        Baseline.read(run, 40, 90)
    with pytest.raises(ValueError, match="expected the run folder"):
        Baseline.read(tmp_path, 25, 100)


def test_classes_without_a_score_are_not_lost():
    assert most_lost({"a": 1.0}, {"b": 50.0}) == ""
    assert most_lost({"a": 50.0}, {"a": 50.5}) == ""


# Once per cause, again when it is much worse; the guard


def monitor(tmp_path, guard="warn"):
    text = StringIO()
    method = SimpleNamespace(context=SimpleNamespace(classes=CLASSES), uses_unlabeled=True, warmup_steps=0)
    made = Monitor(
        method, Masks([[0, 1]]), TrainOptions(guard=guard), torch.device("cpu"), Record(tmp_path / "metrics.jsonl"),
        Progress("test", 100, console=Console(file=text)),
    )  # fmt: skip
    return made, text


def test_a_warning_is_given_once_and_again_when_it_has_doubled(tmp_path):
    made, text = monitor(tmp_path)
    state = State(step=1)
    for step, size in enumerate([4.0, 5.0, 7.9, 8.0, 8.0, 1.0, 16.0], 1):
        state.step = step
        made._settle("scores", [Concern("fallen", size, f"worse by {size}", collapse=True)], state)
    said = ["worse by 4.0", "worse by 8.0", "worse by 16.0"]
    assert text.getvalue().splitlines() == [
        f"step {step}: warning: {words}" for step, words in zip((1, 4, 7), said, strict=True)
    ]
    assert [entry["words"] for entry in read_record(tmp_path / "metrics.jsonl")] == said
    assert state.lowered == 0  # it only warns


def test_the_guard_halves_where_a_collapse_lasts_and_not_without_end(tmp_path):
    made, text = monitor(tmp_path, "lower")
    state, factors = State(), []
    collapse, other = Concern("one class: road", 4, "all road", collapse=True), Concern("gone: pole", 10, "no pole")
    for concerns in [[collapse], [], [collapse], [other], [collapse], [collapse], *[[collapse]] * 12]:
        state.step += 20
        made._settle("pseudo-labels", concerns, state)
        factors.append(state.unlabeled_factor)
    assert factors[:6] == [1, 1, 1, 1, 1, 0.5]
    assert factors[-1] == 0.5**health.LOWERED
    assert "unlabelled images now count 0.5 of their weight, for all road" in text.getvalue()
    entries = [entry for entry in read_record(tmp_path / "metrics.jsonl") if entry["kind"] == "guard"]
    assert [entry["unlabeled_factor"] for entry in entries] == [0.5, 0.25, 0.125, 0.0625]


def test_scores_and_looks_are_counted_apart(tmp_path):
    made, _ = monitor(tmp_path, "lower")
    state = State()
    made._settle("scores", [Concern("fallen", 9, "fallen", collapse=True)], state)
    made._settle("pseudo-labels", [], state)
    made._settle("scores", [Concern("fallen", 9, "fallen", collapse=True)], state)
    assert state.lowered == 1


def test_identical_prototypes_are_a_collapse_and_dead_ones_a_warning(tmp_path):
    made, text = monitor(tmp_path, "lower")
    state = State(step=7)
    dead = "2 of 4 prototypes of class 'star 9' are dead: nearest to hardly a pixel"
    same = "prototypes of class 'car' are identical (closest pair 0.0001 apart)"
    for _ in range(3):
        made.judge(scored(50.0), [dead, same], state)
    assert text.getvalue().count("star 9") == 1
    assert text.getvalue().count("'car' are identical") == 2  # as a warning, and as the guard's reason
    assert state.lowered == 1
    more = dead.replace("2 of", "4 of")
    made.judge(scored(50.0), [more], state)
    assert more in text.getvalue()


# In a training


def test_a_factor_of_one_changes_nothing_and_a_half_halves_the_unlabelled_losses():
    method = Plain()
    result = StepResult({"supervised": torch.tensor(3.0), "consistency": torch.tensor(5.0)}, {})
    assert weighed(result, method, 1.0) is result
    assert weighed(result, method, 0.5).loss == 3 + 2.5
    with pytest.raises(ValueError, match=r"Plain has the losses supervised, .*: name them"):
        weighed(StepResult({"supervised": torch.tensor(3.0)}, {}), method, 0.5)


def test_the_factor_is_resumed(tmp_path):
    whole = trainer(tmp_path / "whole", state=State(lowered=1))
    whole.run()
    first = trainer(tmp_path / "parts", state=State(lowered=1), checkpoint_every=3)
    first.progress.step = lambda step, *_: first.stop.number or setattr(first.stop, "number", 2 if step == 4 else 0)
    with pytest.raises(Stopped):
        first.run()
    rest = resumed(tmp_path / "parts")
    assert rest.state.lowered == 1
    rest.run()
    assert torch.equal(weights(rest.method), weights(whole.method))
    unweighed = trainer(tmp_path / "other")
    unweighed.run()
    assert not torch.equal(weights(unweighed.method), weights(whole.method))


@pytest.mark.parametrize(
    "memory",
    [{"looks": [[1.0], [1.0, 2.0]]}, {"looks": [[-1.0]]}, {"warned": {"a": "b"}}, {"lasting": {"a": 1}}, {"else": 1}],
)
def test_a_damaged_memory_is_refused(tmp_path, memory):
    good = {"looks": [[8.0, 1.0, 1.0]], "warned": {"a": 2.0}, "lasting": {"scores": {"a": 1}}, "best_iou": {"a": 1.0}}
    assert State.read({"step": 3, "health": good}, tmp_path).health == good
    with pytest.raises(ValueError, match="health"):
        State.read({"step": 3, "health": memory}, tmp_path)


def entries(run, kind):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines() if f'"{kind}"' in line]


def test_watching_changes_no_weight_and_is_told_in_the_record(tmp_path):
    for guard in ("off", "warn"):
        config = tiny_run.tiny_config(tmp_path / guard, steps=8, evaluate_every=4, guard=guard)
        train(config, console=tiny_run.QUIET)
    off, warn = (load_checkpoint(tmp_path / guard / "checkpoints/last.pt") for guard in ("off", "warn"))
    for name, value in off["method"].items():
        assert torch.equal(value, warn["method"][name]), name
    found = [each.get("unlabeled_classes") for each in entries(tmp_path / "warn", "evaluation")]
    assert [each["crops"] for each in found] == [1, 2]  # the warm-up has three steps; half of a batch of two
    assert sum(found[-1]["labeled"].values()) == pytest.approx(100, abs=0.1)
    assert sum(found[-1]["predicted"].values()) == pytest.approx(100, abs=0.1)
    assert all("unlabeled_classes" not in each for each in entries(tmp_path / "off", "evaluation"))


def test_an_injected_collapse_is_named_lowered_and_resumed(tmp_path, monkeypatch):
    """Threshold 0 and a classifier that has gone to one class: said at the first look that can tell."""
    monkeypatch.setattr(health, "LOOK_EVERY", 2)
    monkeypatch.setattr(health, "ENOUGH", 2.0)
    text = StringIO()
    options = {"steps": 14, "evaluate_every": 7, "guard": "lower"}
    config = tiny_run.tiny_config(tmp_path / "run", **options)
    monkeypatch.setattr(Monitor, "_seen", lambda self, source, unlabeled: look(0, 0, 100, 0, 0, 0, crops=2))
    train(config, console=Console(file=text, width=200))
    warned = entries(tmp_path / "run", "warning")
    assert warned[0]["cause"] == "one class: disc"
    assert "almost all 'disc'" in text.getvalue()
    guards = [each for each in entries(tmp_path / "run", "guard") if each["kind"] == "guard"]
    assert guards[0]["unlabeled_factor"] == 0.5
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["state"]["lowered"] == len(guards)


def test_what_is_seen_is_what_the_network_says(tmp_path):
    """A classifier that knows one class, half of a batch, padding left out."""
    made, _ = monitor(tmp_path)
    network = tiny.segmentor()
    with torch.no_grad():
        last = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)][-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    _, unlabeled = tiny.batches(4, 3, seed=0)
    unlabeled.valid[:2, :, :3] = False
    made.method.threshold = 0.5
    made.train = TrainOptions(precision="fp32")
    crops, *pixels = made._seen(Predictor(network), unlabeled)
    count = int(unlabeled.valid[:2].sum())
    assert crops == 2
    assert pixels == [0, count, 0, 0, count, 0]
    made.method.threshold = 0.99999
    assert made._seen(Predictor(network), unlabeled)[4:] == [0, 0, 0]


def demo(run, **changes):
    """The shipped demo with a few steps; the warnings and the guard's lines of its record."""
    own = {"run": run, "train.guard": "lower", "train.threads": 1, "evaluation.images": 10, **changes}
    train(load_config("demo", own), console=tiny_run.QUIET)
    return [each for each in read_record(run / "metrics.jsonl") if each["kind"] in ("warning", "guard")]


@pytest.mark.slow
def test_threshold_0_and_a_wrong_rate_are_warned_of_within_60_steps(tmp_path):
    """The warm-up ends at step 42 of 140."""
    own = {"method.threshold": 0, "optim.lr": 3, "train.steps": 140, "train.evaluate_every": 40}
    first, *rest = demo(tmp_path / "run", **own)
    assert first["step"] <= 102
    assert any(name in first["words"] for name in CLASSES_OF_SCENES)
    assert any(each["kind"] == "guard" for each in rest)


@pytest.mark.slow
def test_a_healthy_run_on_scenes_raises_no_warning(tmp_path):
    assert demo(tmp_path / "run", **{"train.steps": 300, "train.evaluate_every": 50}) == []
