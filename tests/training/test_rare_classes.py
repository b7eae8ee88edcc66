"""One per cent of foreground: found with the options for rare classes where plain cross-entropy finds none of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.drawn_batches import TRAIN, batches
from support.tiny_run import QUIET, tiny_config

from semiseg.config.options import AugmentOptions, EvaluationOptions, LossOptions
from semiseg.data.class_pixels import count_class_pixels
from semiseg.data.dataset import Dataset
from semiseg.training import experiment
from semiseg.training.checkpoint import LAST, load_checkpoint
from semiseg.training.experiment import train
from semiseg.types import IGNORE

HEIGHT, WIDTH, RADIUS = 96, 128, 6


def scene(seed):
    """A disc of another colour in noise that is half as strong."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(RADIUS, HEIGHT - RADIUS), rng.integers(RADIUS, WIDTH - RADIUS)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask = ((rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2).astype(np.uint8)
    image = rng.normal(120, 30, (HEIGHT, WIDTH, 3))
    image[mask == 1] += (60, 0, -40)
    return image.clip(0, 255).astype(np.uint8), mask


SCENES = [scene(seed) for seed in range(3)]


def spots(labeled=8, val=6):
    classes = ["background", "spot"]
    return Dataset.from_items(
        classes, labeled=[scene(n) for n in range(labeled)], val=[scene(100 + n) for n in range(val)]
    )


def supervised(folder, steps, focus, **loss):
    config = tiny_config(folder, "supervised", steps=steps, batch_labeled=4, evaluate_every=1000, log_every=40)
    size = {"crop_height": 32, "crop_width": 32, "scale_min": 1.0, "scale_max": 1.0}
    quick = EvaluationOptions(hidden=0, instruments=False)
    return replace(config, augment=AugmentOptions(**size, focus=focus), loss=LossOptions(**loss), evaluation=quick)


def spot_iou(config):
    train(config, console=QUIET, dataset=spots())
    lines = map(json.loads, (config.run_folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "evaluation"][-1]["linear"]["iou"]["spot"]


@pytest.mark.slow  # 12 s
def test_one_per_cent_of_foreground_is_found(tmp_path):
    background, spot = count_class_pixels(spots().labeled, 2)
    assert spot / (background + spot) < 0.01
    assert spot_iou(supervised(tmp_path / "plain", 120, 0.0)) < 20
    assert spot_iou(supervised(tmp_path / "focus", 120, 0.5, dice=1.0)) > 50


def test_a_resumed_run_keeps_the_counts_that_it_began_with(tmp_path, monkeypatch):
    config = supervised(tmp_path / "whole", 6, 0.5, class_weights="sqrt", logit_adjust=0.5)
    data = spots(4, 2)
    train(config, console=QUIET, dataset=data)
    shorter = replace(config, run=tmp_path / "parts", train=replace(config.train, steps=3))
    train(shorter, console=QUIET, dataset=data)
    monkeypatch.setattr(experiment, "count_class_pixels", lambda *_: pytest.fail("it is in the checkpoint"))
    found = []
    for folder in ("whole", "parts"):
        saved = load_checkpoint(tmp_path / folder / "checkpoints" / LAST)["method"]
        found.append(saved["class_pixels"])
    assert torch.equal(*found)
    assert found[0].tolist() == list(count_class_pixels(data.labeled, 2))
    longer = replace(shorter, train=replace(config.train, steps=6))
    train(longer, resume=True, longer=True, console=QUIET, dataset=data)
    saved = load_checkpoint(tmp_path / "parts" / "checkpoints" / LAST)["method"]
    assert torch.equal(saved["class_pixels"], found[0])


def test_classes_are_counted_pixel_by_pixel_and_no_label_at_all_is_said():
    masks = [scene(n)[1] for n in range(3)]
    masks[1][:5] = IGNORE
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    made = Dataset.from_items(
        ["a", "b", "c"], labeled=[(image, mask) for mask in masks], val=[(image, masks[1] * 0 + IGNORE)]
    )
    slow = [sum(int(value == number) for mask in masks for value in mask.ravel()) for number in range(3)]
    assert count_class_pixels(made.labeled, 3) == tuple(slow)
    with pytest.raises(ValueError, match=r"none of the 1 val masks has a pixel of a class.*look at the masks"):
        count_class_pixels(made.val, 3)


def test_focused_batches_do_not_depend_on_workers_or_where_a_run_goes_on():
    focus = AugmentOptions(crop_height=32, crop_width=40, focus=0.7, turn=0.5)
    data = Dataset.from_items(
        ["background", "spot"], labeled=SCENES, val=SCENES, unlabeled=[pair[0] for pair in SCENES]
    )
    whole = batches(data, augment=focus)
    for others in (batches(data, replace(TRAIN, workers=2), augment=focus), batches(data, augment=focus, start=2)):
        for one, two in zip(whole[-len(others) :], others, strict=True):
            assert torch.equal(one[0].image, two[0].image)
            assert torch.equal(one[0].label, two[0].label)
            assert torch.equal(one[1].image, two[1].image)
    shown = [bool((label == 1).any()) for labeled, _ in whole for label in labeled.label]
    assert np.mean(shown) > 0.5, "a crop holds the spot in one of six cases without focus"
