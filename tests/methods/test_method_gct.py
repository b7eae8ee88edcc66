"""Guided Collaborative Training against slow twins: the flaw maps, the detector, its losses, a step."""

import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, probabilities
from support.tiny import batches, clock, segmentor, setting

from semiseg.config.methods import GCTOptions
from semiseg.config.options import OptimOptions
from semiseg.methods.details.gct_flaws import (
    FlawDetector,
    HalfBatchNorm,
    blurred,
    consistency_targets,
    detection_loss,
    flaw_correction,
    flaw_map,
    flaw_target,
)
from semiseg.methods.gct import GCT
from semiseg.methods.paired_method import SIDES
from semiseg.training.optim import build_optimizer
from semiseg.types import IGNORE

GENERATOR = torch.Generator().manual_seed(0)


def method_of(total_steps: int = 10, **options) -> GCT:
    torch.manual_seed(4)
    made = GCT(segmentor(), GCTOptions(**{"detector_channels": 4, **options}), setting(total_steps))
    made.started.fill_(True)
    with torch.no_grad():  # flaws of all sizes, where a fresh detector sees next to none
        made.detector.last.weight.mul_(8)
        made.detector.last.bias.fill_(0.5)
    return made.train()


def random_probability(*shape: int) -> torch.Tensor:
    return (2 * torch.randn(*shape, generator=GENERATOR)).softmax(1)


# ---- flaw maps, pixel by pixel ----


def odd(length: int, part: int) -> int:
    size = length // part
    return size + 1 if size % 2 == 0 else size


def slow_blur(image: np.ndarray, part: int) -> np.ndarray:
    """(H, W) under a square Gaussian kernel, mirrored at the border without repeating it."""
    size = odd(min(image.shape), part)
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    reach = size // 2
    offsets = range(-reach, reach + 1)
    weights = {(dy, dx): math.exp(-(dy**2 + dx**2) / (2 * sigma**2)) for dy in offsets for dx in offsets}
    total = sum(weights.values())

    def mirrored(position: int, length: int) -> int:
        position = abs(position)
        return position if position < length else 2 * (length - 1) - position

    height, width = image.shape
    out = np.zeros_like(image)
    for y, x in np.ndindex(*image.shape):
        for (dy, dx), weight in weights.items():
            out[y, x] += weight / total * image[mirrored(y + dy, height), mirrored(x + dx, width)]
    return out


def slow_stretch(image: np.ndarray) -> np.ndarray:
    return (image - image.min()) / (image.max() - image.min())


def slow_dilation(image: np.ndarray) -> np.ndarray:
    out = np.zeros_like(image)
    for y, x in np.ndindex(*image.shape):
        out[y, x] = image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
    return out


def slow_target(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(C, H, W) and (H, W) -> (H, W)"""
    flaw = np.zeros(label.shape)
    for y, x in np.ndindex(*label.shape):
        if label[y, x] != IGNORE:
            truth = [float(number == label[y, x]) for number in range(len(probability))]
            flaw[y, x] = 0.5 * sum(abs(t - p) for t, p in zip(truth, probability[:, y, x], strict=True))
    return slow_stretch(slow_blur(slow_dilation(slow_blur(flaw, 8)), 4))


@pytest.mark.parametrize("size", [(24, 35), (9, 11)])
def test_the_detectors_target(size):
    probability = random_probability(2, 3, *size)
    label = torch.randint(0, 3, (2, *size), generator=GENERATOR)
    label[:, 2:6, :4] = IGNORE
    found = flaw_target(probability, label)
    for b in range(2):
        expected = slow_target(probability[b].double().numpy(), label[b].numpy())
        np.testing.assert_allclose(found[b].numpy(), expected, atol=1e-5)
    assert found.amin() == 0
    assert found.amax() == 1


def test_what_is_predicted_without_a_label_has_no_flaw():
    probability, label = random_probability(1, 3, 16, 16), torch.randint(0, 3, (1, 16, 16), generator=GENERATOR)
    label[0, 4:9, 3:] = IGNORE
    other = torch.where((label == IGNORE)[:, None], random_probability(1, 3, 16, 16), probability)
    assert flaw_target(probability, label).equal(flaw_target(other, label))
    assert not flaw_target(probability, torch.full_like(label, IGNORE)).any()


def test_maps_are_blurred_and_stretched_and_those_without_a_flaw_are_0():
    flaw = torch.randn(3, 34, 50, generator=GENERATOR)
    flaw[2] = flaw[2].abs().clamp(max=0.09)
    found = flaw_map(flaw)
    for b in range(2):
        expected = slow_stretch(slow_blur(np.maximum(flaw[b].double().numpy(), 0), 16))
        np.testing.assert_allclose(found[b].numpy(), expected, atol=1e-5)
    assert not found[2].any()


def test_a_blur_keeps_the_mean_of_a_constant_and_spreads_a_point():
    constant = torch.full((1, 32, 40), 0.7)
    torch.testing.assert_close(blurred(constant, 4), constant)
    point = torch.zeros(1, 32, 40)
    point[0, 16, 20] = 1
    spread = blurred(point, 4)
    assert (spread > 0).sum() == 9 * 9
    assert float(spread.sum()) == pytest.approx(1, abs=1e-6)


def test_each_pixel_follows_the_less_flawed_and_keeps_its_own_where_both_are():
    left, right = (random_probability(2, 3, 8, 9) for _ in SIDES)
    flaws = torch.rand(2, 2, 8, 9, generator=GENERATOR)
    flaws[:, 0, 0] = 0.3  # as flawed as each other
    target_left, target_right, both = consistency_targets((left, right), (flaws[0], flaws[1]), 0.6)
    cases = set()
    for b, y, x in np.ndindex(2, 8, 9):
        of_left, of_right = (float(flaw[b, y, x]) for flaw in flaws)
        heights = [1.0 if flaw > 0.6 else flaw for flaw in (of_left, of_right)]
        expected_left = left if heights[1] >= heights[0] else right
        expected_right = right if heights[0] >= heights[1] else left
        assert target_left[b, :, y, x].equal(expected_left[b, :, y, x])
        assert target_right[b, :, y, x].equal(expected_right[b, :, y, x])
        assert bool(both[b, y, x]) == (of_left > 0.6 and of_right > 0.6)
        cases.add((bool(both[b, y, x]), np.sign(heights[0] - heights[1])))
    assert cases == {(True, 0), (False, -1), (False, 0), (False, 1)}


def test_correction_and_detection_are_means_over_their_pixels():
    flaw, target = torch.randn(2, 2, 5, 6, generator=GENERATOR)
    where, valid = torch.rand(2, 2, 5, 6, generator=GENERATOR) < 0.6
    label = torch.randint(0, 3, (2, 5, 6), generator=GENERATOR).masked_fill(~valid, IGNORE)
    corrected, detected, count = 0.0, 0.0, 0
    for place in np.ndindex(2, 5, 6):
        if valid[place]:
            count += 1
            corrected += float(flaw[place]) ** 2 * bool(where[place])
            detected += (float(flaw[place]) - float(target[place])) ** 2
    assert flaw_correction(flaw, where, valid).item() == pytest.approx(corrected / count)
    assert detection_loss(flaw, target, label).item() == pytest.approx(detected / count)
    assert detection_loss(flaw, target, label, torch.tensor(7.0)).item() == pytest.approx(detected / 7)
    elsewhere = flaw.masked_fill(~valid, 50.0)
    assert flaw_correction(elsewhere, where, valid) == flaw_correction(flaw, where, valid)
    assert detection_loss(elsewhere, target, label) == detection_loss(flaw, target, label)
    assert flaw_correction(flaw, where, torch.zeros_like(valid)) == 0
    assert detection_loss(flaw, target, torch.full_like(label, IGNORE)) == 0


# ---- the detector ----


def test_the_detector_is_eight_convolutions_of_four_by_four():
    detector = FlawDetector(21)
    convolutions = [part for part in detector.modules() if isinstance(part, torch.nn.Conv2d)]
    assert [(part.in_channels, part.out_channels, part.stride[0]) for part in convolutions] == [
        (24, 64, 2), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1),
        (256, 512, 2), (512, 512, 1), (512, 1, 2),
    ]  # fmt: skip
    assert {part.kernel_size for part in convolutions} == {(4, 4)}
    with torch.no_grad():
        deepest = detector.last(detector.layers(torch.randn(2, 24, 65, 96)))
    assert deepest.shape == (2, 1, 3, 3)


@pytest.mark.parametrize("size", [(1, 1), (9, 11), (33, 64)])
def test_the_detector_takes_any_size(size):
    flaw = FlawDetector(3, channels=4)(torch.randn(2, 3, *size), torch.rand(2, 3, *size))
    assert flaw.shape == (2, *size)
    assert flaw.isfinite().all()


def test_half_of_the_channels_are_normalised_over_the_batch_and_half_by_image():
    maps = 3 + 2 * torch.randn(4, 5, 6, 7, generator=GENERATOR)
    found = HalfBatchNorm(5)(maps).detach().numpy()
    for channel in range(5):
        over_batch = maps[:, channel].double().numpy()
        for b in range(4):
            over = over_batch if channel < 3 else over_batch[b]
            expected = (over_batch[b] - over.mean()) / math.sqrt(over.var() + 1e-5)
            np.testing.assert_allclose(found[b, channel], expected, atol=1e-5)


def test_the_detector_has_an_adam_of_its_own():
    method = method_of(detector_lr=3e-4)
    optimizer = build_optimizer(method.parameter_groups(), OptimOptions(kind="sgd", lr=0.01))
    (group,) = optimizer.parts["adam"].param_groups
    assert (group["lr"], group["betas"]) == (pytest.approx(3e-4), (0.9, 0.99))
    assert {id(parameter) for parameter in group["params"]} == {id(p) for p in method.detector.parameters()}


# ---- a step ----


def observed(method: GCT, step: int) -> dict:
    """A step's losses; what left, right and the detector were shown and answered."""
    found: dict = {"left": [], "right": [], "detector": []}
    parts = {"left": method.student, "right": method.right, "detector": method.detector}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, shown, output, name=name: found[name].append((shown, output)))
    result = method(*batches(size=(34, 40)), clock(step))
    return found | {"losses": {name: loss.item() for name, loss in result.losses.items()}, "stats": result.stats}


def test_a_step():
    options = {"flaw_threshold": 0.35, "unlabeled_weight": 30.0, "ramp": 1.0, "correction_weight": 2.0}
    found = observed(method_of(**options, detector_weight=8.0), step=5)
    labeled, unlabeled = batches(size=(34, 40))
    label = labeled.label.numpy()
    valid = np.concatenate([label != IGNORE, unlabeled.valid.numpy()])
    images = torch.cat([labeled.image, unlabeled.image])
    soft, maps, scored = {}, {}, {}
    passes = dict(zip(SIDES, found["detector"][:2], strict=True))
    for side in SIDES:
        ((shown, output),) = found[side]
        assert shown[0].equal(images)
        logits = output.logits.detach().double().numpy()
        soft[side] = np.stack(
            [[[probabilities(logits[b, :, y, x]) for x in range(40)] for y in range(34)] for b in range(5)]
        )
        (image, probability), flaw = passes[side]
        assert image.equal(images)
        np.testing.assert_allclose(probability.detach().permute(0, 2, 3, 1), soft[side], atol=1e-6)
        scored[side] = flaw.detach().double().numpy()
        smooth = [slow_blur(np.maximum(one, 0), 16) for one in scored[side]]
        maps[side] = np.stack([slow_stretch(one) if one.max() > 0.1 else np.zeros_like(one) for one in smooth])
        expected = mean_cross_entropy(logits[:2], label)
        assert found["losses"][f"supervised_{side}"] == pytest.approx(expected, rel=1e-5)

    flawed = [place for place in np.ndindex(*valid.shape) if valid[place] and min(maps[s][place] for s in SIDES) > 0.35]
    assert 0.02 < len(flawed) / valid.sum() < 0.9
    assert float(found["stats"]["flawed"]) == pytest.approx(len(flawed) / valid.sum())
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        squares = 0.0
        for place in np.ndindex(*valid.shape):
            own, foreign = (1.0 if maps[s][place] > 0.35 else maps[s][place] for s in (side, other))
            if valid[place] and own > foreign:
                squares += sum((soft[side][place] - soft[other][place]) ** 2)
        weight = 30.0 * math.exp(-5 * (1 - 0.5) ** 2)
        expected = weight * squares / 3 / valid.sum()
        assert found["losses"][f"consistency_{side}"] == pytest.approx(expected, rel=1e-4)
        correction = 2.0 * sum(scored[side][place] ** 2 for place in flawed) / valid.sum()
        assert found["losses"][f"correction_{side}"] == pytest.approx(correction, rel=1e-4)
        assert expected > 0

    for side, ((image, probability), flaw) in zip(SIDES, found["detector"][2:], strict=True):
        assert image.equal(images)
        assert not probability.requires_grad
        np.testing.assert_allclose(probability.permute(0, 2, 3, 1), soft[side], atol=1e-6)
        target = np.stack([slow_target(soft[side][b].transpose(2, 0, 1), label[b]) for b in range(2)])
        squares = (flaw[:2].detach().double().numpy() - target) ** 2
        expected = 8.0 / 2 * squares[label != IGNORE].mean()
        assert found["losses"][f"detector_{side}"] == pytest.approx(expected, rel=1e-4)
    assert len(found["losses"]) == 8


def test_the_detector_learns_as_it_judges():
    found = observed(method_of(), step=5)["detector"]
    for judged, learnt in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(judged[1], learnt[1], rtol=0, atol=0)


def test_each_loss_teaches_its_own():
    method = method_of(flaw_threshold=0.3, ramp=0.0)
    losses = method(*batches(size=(34, 40)), clock(5)).losses
    parts = {"left": method.student, "right": method.right, "detector": method.detector}
    for loss in losses:
        kind, side = loss.split("_")
        taught = "detector" if kind == "detector" else side
        for name, part in parts.items():
            gradients = torch.autograd.grad(losses[loss], list(part.parameters()), retain_graph=True, allow_unused=True)
            assert any(one is not None and one.any() for one in gradients) == (name == taught), (loss, name)


def test_the_warm_up_teaches_the_detector_too():
    method = method_of(total_steps=20, warmup=0.25)
    result = method(*batches(size=(34, 40)), clock(4, 20))
    assert list(result.losses) == ["supervised_left", "supervised_right", "detector_left", "detector_right"]


def test_the_weight_rises_after_the_warm_up():
    method = method_of(total_steps=100, warmup=0.2, ramp=0.25)
    assert method.ramp(clock(20, 100), 0.25) == pytest.approx(math.exp(-5))
    assert method.ramp(clock(30, 100), 0.25) == pytest.approx(math.exp(-1.25))
    assert method.ramp(clock(40, 100), 0.25) == method.ramp(clock(99, 100), 0.25) == 1
    assert method.ramp(clock(20, 100), 0.0) == 1
