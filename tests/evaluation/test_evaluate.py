"""Scores against a twin that goes pixel by pixel, for every protocol and both predictors."""

import math

import cv2
import numpy as np
import pytest
import torch
from support import tiny
from support.drawn_pictures import SIZES, Pictures, evaluator, normalised, predictor
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config.methods import PrototypeOptions
from semiseg.data.dataset import Pixels
from semiseg.evaluation.evaluator import eval_mode
from semiseg.methods import METHODS
from semiseg.parts.predictor import Predictor
from semiseg.types import IGNORE


@torch.no_grad()
def twin_whole(model: Predictor, image: Pixels, mask: Pixels) -> tuple[dict[str, Tensor], Pixels]:
    return model(normalised(image)), mask


@torch.no_grad()
def twin_half(model: Predictor, image: Pixels, mask: Pixels) -> tuple[dict[str, Tensor], Pixels]:
    height, width = (max(1, round(side / 2)) for side in mask.shape)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    logits = model(normalised(small))
    native = {name: F.interpolate(value, mask.shape, mode="bilinear") for name, value in logits.items()}
    return native, mask


@torch.no_grad()
def twin_crop(model: Predictor, image: Pixels, mask: Pixels) -> tuple[dict[str, Tensor], Pixels]:
    """U2PL on VOC, with a side of 12: the frame is the mean colour and counts as class 0."""
    side, canvas, label = 12, torch.zeros(1, 3, 12, 12), np.zeros((12, 12), np.uint8)
    height, width = mask.shape
    for y in range(side):
        for x in range(side):
            row = y + (height - side) // 2 if height >= side else y - (side - height) // 2
            column = x + (width - side) // 2 if width >= side else x - (side - width) // 2
            if 0 <= row < height and 0 <= column < width:
                canvas[:, :, y, x] = normalised(image)[:, :, row, column]
                label[y, x] = mask[row, column]
    return model(canvas), label


@torch.no_grad()
def twin_slide(model: Predictor, image: Pixels, mask: Pixels) -> tuple[dict[str, Tensor], Pixels]:
    """Windows of 8, 5 apart, by hand: the mean of raw logits."""
    pixels, (height, width) = normalised(image), mask.shape
    total = {name: torch.zeros(1, 3, height, width) for name in ("linear", "prototype")}
    visits = torch.zeros(height, width)
    tops, lefts = (sorted({min(first, max(side - 8, 0)) for first in range(0, side, 5)}) for side in (height, width))
    for top in tops:
        for left in lefts:
            for name, logits in model(pixels[:, :, top : top + 8, left : left + 8]).items():
                total[name][:, :, top : top + 8, left : left + 8] += logits
            visits[top : top + 8, left : left + 8] += 1
    return {name: value / visits for name, value in total.items()}, mask


PROTOCOLS = {
    "whole": (twin_whole, {"protocol": "whole"}),
    "half": (twin_half, {"scale": 0.5, "protocol": "whole"}),
    "crop": (twin_crop, {"protocol": "crop", "window": 12, "stride": 6}),
    "slide": (twin_slide, {"protocol": "slide", "window": 8, "stride": 5}),
}


def slow_counts(logits: list[Tensor], labels: list[Pixels], threshold: float = 0.0) -> np.ndarray:
    """Pixel by pixel: true class, predicted class; those whose softmax reaches the threshold."""
    counts = np.zeros((3, 3), int)
    for value, label in zip(logits, labels, strict=True):
        for y, x in np.ndindex(*label.shape):
            pixel = value[0, :, y, x].double().softmax(0).tolist()
            if label[y, x] != IGNORE and max(pixel) >= threshold:
                counts[label[y, x], pixel.index(max(pixel))] += 1
    return counts


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_counts_what_its_twin_counts(protocol):
    twin, options = PROTOCOLS[protocol]
    images, model = Pictures(), predictor()
    found = evaluator(images, **options)(model)
    pairs = [twin(model, image, mask) for image, mask in zip(images.images, images.masks, strict=True)]
    assert list(found.confusion) == ["linear", "prototype"]
    for name, matrix in found.confusion.items():
        expected = slow_counts([logits[name] for logits, _ in pairs], [label for _, label in pairs])
        assert matrix.counts.tolist() == expected.tolist()
        assert (expected.sum(0) > 0).all()  # every class is predicted
    assert not np.array_equal(found.confusion["linear"].counts, found.confusion["prototype"].counts)


def test_masks_are_scored_at_native_size():
    images = Pictures()
    pixels = sum(int((mask != IGNORE).sum()) for mask in images.masks)
    for scale in (0.5, 1.0, 1.6):
        found = evaluator(images, scale)(predictor())
        assert found.confusion["linear"].counts.sum() == pixels


def test_the_crop_scores_its_frame():
    images = Pictures(((4, 4),))
    counts = evaluator(images, protocol="crop", window=8, stride=8)(predictor()).confusion["linear"].counts
    assert counts.sum() == 8 * 8 - 4  # a row is IGNORE
    assert counts[0].sum() == 8 * 8 - 4 * 4 + int((images.masks[0] == 0).sum())


def test_pseudo_labels_are_judged_by_the_headline_pixels_that_are_sure():
    images, model, threshold = Pictures(), predictor("prototype"), 0.36
    found = evaluator(images)(model, threshold).to_dict()["pseudo_labels"]
    logits = [twin_whole(model, *pair)[0]["prototype"] for pair in zip(images.images, images.masks, strict=True)]
    every, sure = slow_counts(logits, images.masks), slow_counts(logits, images.masks, threshold)
    assert 0 < sure.sum() < every.sum()
    hits = sure.diagonal()

    def by_class(part: np.ndarray, whole: np.ndarray) -> dict:
        return dict(zip(tiny.CLASSES, (100 * part / whole).tolist(), strict=True))

    assert found["threshold"] == threshold
    assert found["share"] == pytest.approx(100 * sure.sum() / every.sum())
    assert found["accuracy"] == pytest.approx(100 * hits.sum() / sure.sum())
    assert found["share_by_class"] == pytest.approx(by_class(sure.sum(1), every.sum(1)))
    assert found["precision_by_class"] == pytest.approx(by_class(hits, sure.sum(0)))
    assert found["recall_by_class"] == pytest.approx(by_class(hits, sure.sum(1)))


def test_the_calibration_error_is_that_of_the_headline():
    images, model = Pictures(), predictor("prototype")
    rows = []  # (confidence, right) of every labelled pixel
    for image, mask in zip(images.images, images.masks, strict=True):
        confidence, said = twin_whole(model, image, mask)[0]["prototype"][0].softmax(0).max(0)
        labelled = mask != IGNORE
        rows += zip(confidence.numpy()[labelled].tolist(), (said.numpy() == mask)[labelled].tolist(), strict=True)
    bins = [[row for row in rows if math.ceil(15 * row[0]) == number + 1] for number in range(15)]
    expected = sum(abs(sum(right for _, right in each) - sum(sure for sure, _ in each)) for each in bins) / len(rows)
    assert evaluator(images)(model).to_dict()["calibration_error"] == pytest.approx(100 * expected, abs=1e-4)


def test_a_threshold_of_zero_keeps_every_pixel_and_none_of_more_than_one():
    found = evaluator(Pictures())(predictor(), 0.0)
    assert np.array_equal(found.kept.counts, found.confusion["linear"].counts)
    nothing = evaluator(Pictures())(predictor(), 1.01).to_dict()["pseudo_labels"]
    assert nothing["share"] == 0
    assert np.isnan(nothing["accuracy"])
    assert "pseudo_labels" not in evaluator(Pictures())(predictor()).to_dict()


@pytest.mark.parametrize("headline", ["linear", "prototype"])
def test_the_headline_is_the_score(headline):
    scores = evaluator(Pictures())(predictor(headline))
    written = scores.to_dict()
    assert written["headline"] == headline
    assert scores.miou == written["miou"] == written[headline]["miou"]
    assert {"linear", "prototype"} < set(written)
    counts = scores.confusion[headline].counts
    iou = [100 * counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c]) for c in range(3)]
    assert written[headline]["iou"] == pytest.approx(dict(zip(tiny.CLASSES, iou, strict=True)))
    assert written["miou"] == pytest.approx(sum(iou) / 3)
    assert written[headline]["accuracy"] == pytest.approx(100 * counts.trace() / counts.sum())


def test_a_limit_scores_the_first_images_and_progress_tells():
    calls = []
    found = evaluator(Pictures())(predictor(), limit=2, progress=lambda done, of: calls.append((done, of)))
    expected = evaluator(Pictures(SIZES[:2]))(predictor())
    assert np.array_equal(found.confusion["linear"].counts, expected.confusion["linear"].counts)
    assert calls == [(1, 2), (2, 2)]
    assert evaluator(Pictures())(predictor(), limit=99).miou == evaluator(Pictures())(predictor()).miou


def alone(index: int) -> Pictures:
    pictures = Pictures()
    for name in ("names", "images", "masks"):
        setattr(pictures, name, getattr(pictures, name)[index : index + 1])
    return pictures


def test_scores_add_up_over_the_set_and_not_over_images():
    whole = evaluator(Pictures())(predictor())
    parts = [evaluator(alone(index))(predictor()) for index in range(len(SIZES))]
    summed = sum(part.confusion["linear"].counts for part in parts)
    assert whole.confusion["linear"].counts.tolist() == summed.tolist()
    assert whole.miou != pytest.approx(np.mean([part.miou for part in parts]), abs=0.01)


def test_the_counts_of_single_images_are_those_of_each_alone_and_only_on_request():
    found = evaluator(Pictures())(predictor(), per_image=True)
    assert list(found.by_image) == ["linear", "prototype"]
    for name, counts in found.by_image.items():
        alone_counts = [evaluator(alone(index))(predictor()).confusion[name].counts for index in range(len(SIZES))]
        assert counts.tolist() == np.stack(alone_counts).tolist()
    assert evaluator(Pictures())(predictor()).by_image == {}
    assert evaluator(Pictures())(predictor(), limit=2, per_image=True).by_image["linear"].shape == (2, 3, 3)


def test_evaluating_leaves_every_part_of_a_method_in_its_own_mode():
    """A teacher left in train mode would label with dropout and the batch's statistics from then on."""
    method = METHODS["prototype"](tiny.segmentor(dropout=0.5), PrototypeOptions(), tiny.setting()).train()
    method.prepare(tiny.one_by_one(tiny.batches()[0]), tiny.clock())
    modes = {name: module.training for name, module in method.named_modules()}
    state = {name: value.clone() for name, value in method.state_dict().items()}
    first, second = (evaluator(Pictures())(method.predictor) for _ in range(2))
    assert first.confusion["linear"].counts.tolist() == second.confusion["linear"].counts.tolist()
    assert {name: module.training for name, module in method.named_modules()} == modes
    assert modes["student.decoder"]
    assert not modes["teacher.segmentor.decoder"]
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


def test_modes_come_back_after_an_error_too():
    part = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    seen = []

    def fail() -> None:
        with eval_mode(part):
            seen.append(part[0].training)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [False]
    assert (part.training, part[0].training, part[1].training) == (True, True, False)


def test_images_without_a_labelled_pixel_are_no_score():
    images = Pictures(((4, 5), (3, 3)))
    for mask in images.masks:
        mask[:] = IGNORE
    with pytest.raises(ValueError, match="the 2 val images have no labelled pixel to score: all are 255"):
        evaluator(images)(predictor())


def test_the_crop_is_defined_at_native_size():
    with pytest.raises(ValueError, match=r"data\.scale is 0\.5; use --evaluation\.protocol whole"):
        evaluator(Pictures(), 0.5, protocol="crop")
