"""Pseudo-labels held against hidden masks: what is measured is right, and training does not notice."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import equality, folders, tiny, tiny_run
from support.variants import STEPS, VARIANTS, WARMUP, method_of

from semiseg.config.options import EvaluationOptions
from semiseg.data import open_dataset
from semiseg.data.dataset import ImageSet
from semiseg.data.loading import whole_images
from semiseg.evaluation.evaluator import eval_mode, hidden_labels
from semiseg.evaluation.hidden import hidden_pool
from semiseg.methods import METHODS
from semiseg.runtime.files import plain
from semiseg.training.checkpoint import LAST, load_checkpoint
from semiseg.training.experiment import build_experiment, train
from semiseg.training.finished import load_run
from semiseg.training.record import read_record
from semiseg.types import IGNORE


class Masks(ImageSet):
    """Image i has mask i; one is missing, one has no labelled pixel."""

    def __init__(self, masks):
        self.name, self.has_masks, self.masks = "hidden", True, masks
        self.names = [f"u{number}" for number in range(len(masks))]

    def image(self, index):
        return np.zeros((4, 5, 3), np.uint8)

    def mask(self, index):
        if self.masks[index] is None:
            raise ValueError(f"u{index}.png does not exist")
        return self.masks[index]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By method and number of hidden images, the folder of a finished run."""
    done = {}

    def run(method, hidden):
        if (method, hidden) not in done:
            folder = tmp_path_factory.mktemp("hidden") / method
            config = tiny_run.tiny_config(folder, method, evaluation=EvaluationOptions(hidden=hidden))
            done[method, hidden] = train(config, console=tiny_run.QUIET)
        return done[method, hidden]

    return run


def evaluations(folder):
    return [entry for entry in equality.entries(folder) if entry["kind"] == "evaluation"]


def test_a_pool_holds_images_with_labels_only_and_always_the_same():
    shown = np.zeros((4, 5), np.uint8)
    masks = [shown] * 40
    masks[3], masks[7] = None, np.full_like(shown, IGNORE)
    found = hidden_pool(SimpleNamespace(hidden=Masks(masks)), 100)
    assert list(found.names) == [f"u{number}" for number in range(40) if number not in (3, 7)]
    few = [hidden_pool(SimpleNamespace(hidden=Masks(masks)), 5).names for _ in range(2)]
    assert few[0] == few[1] == sorted(few[0], key=lambda name: int(name[1:]))
    assert len(few[0]) == 5
    assert few[0] != [f"u{number}" for number in range(5)]  # not the start of the list


@pytest.mark.parametrize(("masks", "count"), [([None, None], 4), ([], 4), ([np.zeros((2, 2), np.uint8)], 0)])
def test_no_pool(masks, count):
    assert hidden_pool(SimpleNamespace(hidden=Masks(masks)), count) is None
    assert hidden_pool(SimpleNamespace(hidden=None), 4) is None


def test_a_folders_hidden_masks_are_found_and_damaged_ones_are_no_error(tmp_path):
    root = folders.filled(tmp_path)
    (root / "few.txt").write_text("m0\nm1\n")
    (root / "val.txt").write_text("m2\n")
    (root / "masks/m4.png").write_bytes(b"broken")
    dataset = folders.opened(root, labeled="few.txt", scale=0.5)
    found = hidden_pool(dataset, 16)
    assert set(found.names) == {"m3", "m5", "m6", "m7", "m8", "m9"}  # of u0 to u4 there are none
    assert found.image(0).shape[:2] == found.mask(0).shape == folders.SIZE
    assert not dataset.unlabeled.has_masks
    with pytest.raises(ValueError, match="have no masks"):
        dataset.unlabeled.mask(0)


def labels_of(teacher, images):
    """(confidence, class) of each image's pixels, (H, W)."""
    with torch.no_grad():
        outputs = [teacher(image).logits[0] for _, image, _ in whole_images(images, with_label=False)]
    return [output.softmax(0).max(0) for output in outputs]


def test_what_is_measured_equals_pixel_by_pixel(runs):
    experiment = load_run(runs("cutmix", 3), "last")
    unlabeled, method = experiment.dataset.unlabeled, experiment.method
    said = labels_of(method.teacher.segmentor.eval(), unlabeled)
    threshold = float(torch.cat([confidence.flatten() for confidence, _ in said]).median())
    method.options = replace(method.options, threshold=threshold)
    # By true class all pixels and those kept; by pseudo-label those kept, and those of them that are right.
    pixels, shown, kept, right = ([0] * 6 for _ in range(4))
    for number, (confidence, label) in enumerate(said):
        for place, true in np.ndenumerate(unlabeled.source.scene(number).mask):
            pixels[true] += 1
            if confidence[place] >= method.threshold:
                shown[true] += 1
                kept[label[place]] += 1
                right[label[place]] += true == label[place].item()
    evaluator = experiment.evaluator(experiment.dataset.val)
    every_image = replace(evaluator, options=EvaluationOptions(hidden=100))
    found = hidden_labels(every_image, experiment.dataset)(method)
    assert (found["images"], found["threshold"]) == (8, method.threshold)
    assert found["share"] == pytest.approx(100 * sum(kept) / sum(pixels))
    assert found["accuracy"] == pytest.approx(100 * sum(right) / sum(kept))
    precision = [100 * hits / count if count else math.nan for hits, count in zip(right, kept, strict=True)]
    assert list(found["precision_by_class"].values()) == pytest.approx(precision, nan_ok=True)
    assert list(found["share_by_class"].values()) == pytest.approx((100 * np.divide(shown, pixels)).tolist())


def test_the_record_holds_what_was_measured(runs):
    experiment = load_run(runs("cutmix", 3), "last")
    measured = hidden_labels(experiment.evaluator(experiment.dataset.val), experiment.dataset)(experiment.method)
    assert evaluations(runs("cutmix", 3))[-1]["hidden_labels"] == plain(measured)


@pytest.mark.parametrize("method", ["cutmix", "prototype"])
def test_training_does_not_notice(runs, method):
    without, with_hidden = runs(method, 0), runs(method, 3)
    first, second = (load_checkpoint(folder / "checkpoints" / LAST) for folder in (without, with_hidden))
    equality.same_tensors(first["method"], second["method"])
    equality.same_tensors(equality.momenta(first), equality.momenta(second))
    entries = equality.entries(with_hidden)
    measured = [entry.pop("hidden_labels") for entry in entries if "hidden_labels" in entry]
    assert [found["images"] for found in measured] == [3, 3, 3]
    assert entries == equality.entries(without)
    assert (without / "result.json").read_text("utf-8").count("hidden_labels") == 0


def test_a_run_goes_on_with_another_number_of_hidden_images_or_none(runs, tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "cutmix", evaluation=EvaluationOptions(hidden=3))
    experiment = build_experiment(config)
    assert hidden_labels(experiment.evaluator(experiment.dataset.val), experiment.dataset) is not None
    folder = train(config, console=tiny_run.QUIET)
    other = replace(config, evaluation=EvaluationOptions(hidden=0))
    assert train(other, resume=True, console=tiny_run.QUIET) == folder


def test_supervised_training_measures_nothing(runs):
    assert all("hidden_labels" not in entry for entry in read_record(runs("supervised", 16) / "metrics.jsonl"))


def test_of_a_crop_protocol_whole_images_are_measured():
    dataset = open_dataset(tiny_run.tiny_config(None).data)
    config = tiny_run.tiny_config(None, "cutmix", evaluation=EvaluationOptions(protocol="crop", window=16, stride=8))
    found = hidden_labels(build_experiment(config).evaluator(dataset.val), dataset)
    assert found.evaluator.options.protocol == "whole"


# What makes the labels


def unlabeled_of(count=1):
    return tiny.batches(2, count, seed=4)[1]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if METHODS[VARIANTS[name][0]].uses_unlabeled])
def test_every_method_that_labels_says_by_what(variant):
    method = method_of(variant)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    source = method.label_source
    with eval_mode(source), torch.inference_mode():
        logits = next(iter(source(unlabeled_of(2).image).values()))
    assert logits.shape == (2, 3, *unlabeled_of().image.shape[-2:])
    assert logits.isfinite().all()
    equality.same_tensors(method.state_dict(), before)
    assert method.training


@pytest.mark.parametrize("variant", ["cutmix", "mean_teacher", "u2pl", "ael", "prototype", "prototype alone"])
def test_the_source_gives_the_teachers_labels(variant):
    method, unlabeled = method_of(variant), unlabeled_of(2)
    labeled = tiny.batches(2, 2, seed=1)[0]
    method.prepare(tiny.one_by_one(labeled), tiny.clock(WARMUP, STEPS))
    confidence, label = next(iter(method.label_source(unlabeled.image).values())).softmax(1).max(1)
    expected = method.label(unlabeled)
    assert torch.equal(label.byte(), expected.label)
    assert torch.equal(confidence.half(), expected.confidence)


def test_of_one_image_pseudosegs_source_is_its_soft_label():
    method, unlabeled = method_of("pseudoseg").eval(), unlabeled_of(1)
    with torch.no_grad():
        found = method.label_source(unlabeled.image)["linear"].softmax(1)
    whole = unlabeled._replace(valid=torch.ones_like(unlabeled.valid))
    torch.testing.assert_close(found, method.soft_label(whole))
