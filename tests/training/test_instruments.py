"""The instruments: each loss's pull against a backward pass of its own, and that a run with them learns the same."""

import copy
from dataclasses import replace

import pytest
import torch
from support import tiny_run
from support.tiny import CLASSES, batches, clock, segmentor, setting
from torch.nn import functional as F

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.options import EvaluationOptions
from semiseg.methods import METHODS
from semiseg.networks import wrap
from semiseg.parts.prototypes import Prototypes
from semiseg.report.curves import charts
from semiseg.report.runs import read_runs
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.instruments import gradient_norms, views_of_labels
from semiseg.training.record import read_record
from semiseg.types import IGNORE, Clock


def method_of(name: str):
    options = METHOD_OPTIONS[name](**({} if name == "supervised" else {"warmup": 0.0}))
    method = METHODS[name](segmentor(), options, setting()).train()
    labeled, unlabeled = batches()
    one_by_one = [type(labeled)(*(each[i : i + 1] for each in labeled[:3])) for i in range(2)]
    method.prepare(one_by_one, clock(0))
    return method, labeled, unlabeled


def after_start(step: int = 3) -> Clock:
    return clock(step)


# ---- gradients ----


@pytest.mark.parametrize("name", ["supervised", "cutmix", "prototype", "unimatch", "cps"])
def test_a_pull_is_the_gradient_of_that_loss_alone(name):
    method, labeled, unlabeled = method_of(name)
    twin = copy.deepcopy(method)
    losses = method(labeled, unlabeled, after_start()).losses
    found = gradient_norms(losses, method)
    pulled = [loss for loss, value in losses.items() if value.requires_grad]
    assert list(found) == pulled
    for loss in pulled:
        fresh = copy.deepcopy(twin)
        fresh(labeled, unlabeled, after_start()).losses[loss].backward()
        for role in ("encoder", "head"):
            groups = [group for group in fresh.parameter_groups() if group["role"] == role]
            squares = [p.grad.square().sum() for group in groups for p in group["params"] if p.grad is not None]
            expected = torch.stack(squares).sum().sqrt().item() if squares else 0.0
            assert found[loss][role] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert any(found[loss]["encoder"] > 0 for loss in pulled)


def test_the_graph_stays_and_no_gradient_is_written():
    method, labeled, unlabeled = method_of("prototype")
    result = method(labeled, unlabeled, after_start())
    gradient_norms(result.losses, method)
    assert all(each.grad is None for each in method.parameters())
    result.loss.backward()
    assert any(each.grad is not None for each in method.parameters())


# ---- views of the labels ----


def test_views_are_the_networks_own_losses_and_feature_lengths_in_eval_mode():
    method, labeled, _ = method_of("cutmix")
    modes = [part.training for part in method.modules()]
    with torch.no_grad():
        for each in method.teacher.parameters():
            each.mul_(1.1)
    found = views_of_labels(method, labeled)
    assert [part.training for part in method.modules()] == modes
    for name, network in (("student", method.student), ("teacher", method.labeler)):
        output = copy.deepcopy(network).eval()(labeled.image)
        loss = F.cross_entropy(output.logits, labeled.label, ignore_index=IGNORE).item()
        lengths = output.features.permute(0, 2, 3, 1).flatten(0, 2).square().sum(1).sqrt()
        assert found[name] == pytest.approx({"loss": loss, "feature_norm": lengths.mean().item()}, rel=1e-5)
    assert found["student"]["loss"] != pytest.approx(found["teacher"]["loss"])


def test_a_method_without_a_teacher_has_one_view():
    method, labeled, _ = method_of("supervised")
    assert list(views_of_labels(method, labeled)) == ["student"]


# ---- drift ----


def test_drift_is_nothing_at_the_start_and_the_angle_afterwards():
    method, _, _ = method_of("prototype")
    prototypes = method.prototypes
    figures, _ = prototypes.health(CLASSES)
    assert figures["prototype_drift"] == pytest.approx([0, 0, 0], abs=1e-6)
    start = prototypes.predictor.prototypes.clone()
    prototypes.predictor.prototypes[1].copy_(F.normalize(torch.randn_like(start[1]), dim=-1))
    figures, _ = prototypes.health(CLASSES)
    moved = prototypes.predictor.prototypes[1]
    cosines = [(a @ b / (a.norm() * b.norm())).item() for a, b in zip(moved, start[1], strict=True)]
    assert figures["prototype_drift"] == pytest.approx([0, 1 - sum(cosines) / len(cosines), 0], abs=1e-5)


def test_a_class_without_prototypes_has_no_drift():
    method, _, _ = method_of("prototype")
    method.prototypes.predictor.ready[2] = False
    figures, _ = method.prototypes.health(CLASSES)
    assert figures["prototype_drift"][2] is None


def test_a_class_that_comes_after_the_start_has_no_place_to_have_drifted_from():
    head = Prototypes(classes=3, channels=11, per_class=2)
    generator = torch.Generator().manual_seed(0)
    head.start([(torch.randn(2, 11, 8, 8), torch.randint(0, 2, (2, 8, 8)))], generator)
    head.predictor.ready[2], head.predictor.prototypes[2] = True, torch.randn(2, 11)
    drift = head.health(CLASSES)[0]["prototype_drift"]
    assert drift[2] is None
    assert drift[:2] == pytest.approx([0, 0], abs=1e-6)
    assert min(drift[:2]) >= 0


def test_prototypes_start_from_where_they_are_measured():
    head = Prototypes(classes=3, channels=11, per_class=2)
    assert not head.origin.any()
    generator = torch.Generator().manual_seed(0)
    head.start([(torch.randn(2, 11, 8, 8), torch.randint(0, 3, (2, 8, 8)))], generator)
    torch.testing.assert_close(head.origin, head.predictor.prototypes)


# ---- in a run ----


@pytest.fixture(scope="module")
def measured_and_not(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, on in (("on", True), ("off", False)):
        config = tiny_run.tiny_config(folder / name, evaluation=EvaluationOptions(hidden=2, instruments=on))
        made[name] = train(config, console=tiny_run.QUIET)
    return made


def test_switched_off_they_cost_no_second_look_at_the_hidden_images(measured_and_not):
    entries = read_record(measured_and_not["off"] / "metrics.jsonl")
    assert all("miou" not in entry["hidden_labels"] for entry in entries if entry["kind"] == "evaluation")


def test_a_network_without_an_encoder_has_no_pull_there():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 1))
    method = METHODS["supervised"](wrap(module, features="0"), METHOD_OPTIONS["supervised"](), setting())
    found = gradient_norms(method(batches()[0], None, clock(0)).losses, method)
    assert list(found["supervised"]) == ["head"]


def test_a_run_learns_the_same_with_and_without_them(measured_and_not):
    on, off = (load_checkpoint(run / "checkpoints/last.pt")["method"] for run in measured_and_not.values())
    assert all(torch.equal(on[key], off[key]) for key in off)


def test_the_record_has_the_figures_of_each_evaluation(measured_and_not):
    on, off = (read_record(run / "metrics.jsonl") for run in measured_and_not.values())
    assert not [entry for entry in off if "gradients" in entry]
    evaluations = [entry for entry in on if entry["kind"] == "evaluation"]
    assert [entry["step"] for entry in evaluations] == [5, 10, 12]
    last = evaluations[-1]
    assert set(last["gradients"]) == {"supervised", "unlabeled", "prototype", "prototype_unlabeled"}
    assert set(last["labeled_views"]) == {"student", "teacher"}
    assert len(last["prototype_drift"]) == len(last["linear"]["iou"])
    assert set(last["hidden_labels"]["miou"]) == {"student", "teacher"}


def test_the_report_draws_them(measured_and_not):
    titles = [chart.title for chart in charts(read_runs([measured_and_not["on"]]))]
    for title in ("pull of the losses", "student and teacher", "loss on labelled images", "length of the features"):
        assert any(title in each for each in titles)
    assert any("found by the pseudo-labels" in each for each in titles)
    assert any("drift of the prototypes" in each for each in titles)
    both = [chart.title for chart in charts(read_runs(list(measured_and_not.values())))]
    assert "Loss on labelled images" in both


def test_they_may_be_switched_off_on_resume(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", steps=5)
    train(config, console=tiny_run.QUIET)
    before = read_record(tmp_path / "run/metrics.jsonl")
    other = replace(config, evaluation=replace(config.evaluation, instruments=False))
    train(other, resume=True, console=tiny_run.QUIET)
    assert read_record(tmp_path / "run/metrics.jsonl") == before


def test_a_checkpoint_of_before_they_were_measures_drift_from_where_it_goes_on():
    method, _, _ = method_of("prototype")
    state = method.state_dict()
    del state["prototypes.origin"]
    other, _, _ = method_of("prototype")
    other.prototypes.origin.zero_()
    other.load_state_dict(state)
    assert torch.equal(other.prototypes.origin, other.prototypes.predictor.prototypes)


@pytest.mark.parametrize("reaches", [True, False])
def test_a_loss_that_reaches_nothing_has_no_pull(reaches):
    method, labeled, _ = method_of("supervised")
    constant = torch.tensor(1.0, requires_grad=reaches)
    losses = {"supervised": method(labeled, None, clock(0)).losses["supervised"], "constant": 2 * constant}
    found = gradient_norms(losses, method)
    assert found.get("constant") == ({"encoder": 0.0, "head": 0.0} if reaches else None)
    assert found["supervised"]["head"] > 0
