"""Cross Pseudo Supervision against slow twins: its masks, its labels, its losses."""

import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, probabilities
from support.tiny import batches, clock, one_by_one, optimizer_of, segmentor, setting, train_step

from semiseg.config.methods import CPSOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.methods.cps import CPS
from semiseg.methods.paired_method import SIDES
from semiseg.parts.mixing import toggled_boxes
from semiseg.types import IGNORE, PseudoLabel

SIZE = (9, 11)


def method_of(total_steps: int = 10, **options) -> CPS:
    made = CPS(segmentor(aux=False), CPSOptions(**options), setting(total_steps))
    made.started.fill_(True)
    return made.train()


def observed(method: CPS) -> dict:
    """A step's losses and statistics, and by side what each network was shown and answered, pass by pass."""
    found: dict = {side: [] for side in SIDES}
    for side, network in zip(SIDES, method.networks, strict=True):
        network.register_forward_hook(
            lambda _, arguments, output, side=side: found[side].append(
                (arguments[0], output.logits.detach().double().numpy())
            )
        )
    result = method(*batches(), clock(5))
    return found | {"losses": {name: loss.item() for name, loss in result.losses.items()}, "stats": result.stats}


def taught(logits: np.ndarray, label: np.ndarray, valid: np.ndarray) -> float:
    """Mean cross-entropy over the valid pixels, one by one."""
    places = [place for place in np.ndindex(*valid.shape) if valid[place]]
    return sum(-math.log(probabilities(logits[b, :, y, x])[label[b, y, x]]) for b, y, x in places) / len(places)


# ---- masks ----


@pytest.mark.parametrize("size", [(40, 56), (9, 11)])
def test_masks_are_three_boxes_that_toggle(size):
    image, generator, twin = torch.empty(4, 3, *size), *(torch.Generator().manual_seed(3) for _ in range(2))
    expected = np.zeros((4, *size), bool)
    for _ in range(3):
        areas, aspects = torch.rand(2, 4, generator=twin).double().numpy()
        tops, lefts = (torch.rand(4, generator=twin).double().numpy() for _ in range(2))
        for b, (area, aspect, top, left) in enumerate(zip(areas, aspects, tops, lefts, strict=True)):
            whole = 0.25 + 0.25 * area  # of a box before it is one of three
            tall = math.exp(aspect * math.log(whole))
            height = round(tall * size[0] / math.sqrt(3))
            width = round(whole / tall * size[1] / math.sqrt(3))
            top, left = int(top * (size[0] - height + 1)), int(left * (size[1] - width + 1))
            for y, x in np.ndindex(height, width):
                expected[b, top + y, left + x] = not expected[b, top + y, left + x]
            if size[0] > 20:
                assert 1 / 13 < height * width / (size[0] * size[1]) < 1 / 5.5
    found = toggled_boxes(image, generator)
    assert (found.numpy() == expected).all()
    assert found.dtype == torch.bool
    assert 0.1 < expected.mean() < 0.5


# ---- a step ----


def test_with_cutmix_each_learns_what_the_other_says_of_the_parts():
    found = observed(method_of(unlabeled_weight=2.0))
    labeled, unlabeled = batches()
    boxes = toggled_boxes(unlabeled.image, clock(5).generator)
    source = [[[(b + 1) % 3 if boxes[b, y, x] else b for x in range(11)] for y in range(9)] for b in range(3)]
    places = list(np.ndindex(3, *SIZE))
    mixed, valid = torch.empty_like(unlabeled.image), np.zeros((3, *SIZE), bool)
    labels = {side: np.zeros((3, *SIZE), int) for side in SIDES}
    for b, y, x in places:
        mixed[b, :, y, x] = unlabeled.image[source[b][y][x], :, y, x]
        valid[b, y, x] = unlabeled.valid[source[b][y][x], y, x]
        for side in SIDES:
            labels[side][b, y, x] = found[side][0][1][source[b][y][x], :, y, x].argmax()
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        (asked, _), (shown, logits) = found[side]
        assert asked.equal(unlabeled.image)
        assert shown.equal(torch.cat([labeled.image, mixed]))
        assert found["losses"][f"supervised_{side}"] == pytest.approx(
            mean_cross_entropy(logits[:2], labeled.label.numpy()), rel=1e-5
        )
        expected = 2.0 * taught(logits[2:], labels[other], valid)
        assert found["losses"][f"unlabeled_{side}"] == pytest.approx(expected, rel=1e-5)
    agreed = [labels["left"][place] == labels["right"][place] for place in places if valid[place]]
    assert float(found["stats"]["agreed"]) == pytest.approx(np.mean(agreed))
    assert 0 < np.mean(agreed) < 1
    assert len(found["losses"]) == 4


def test_without_cutmix_labelled_images_are_asked_too():
    found = observed(method_of(cutmix=False, unlabeled_weight=1.5))
    labeled, unlabeled = batches()
    valid = np.concatenate([labeled.label.numpy() != IGNORE, unlabeled.valid.numpy()])
    assert not valid[:2].all()
    assert valid[:2].any()
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        ((shown, logits),) = found[side]
        assert shown.equal(torch.cat([labeled.image, unlabeled.image]))
        expected = 1.5 * taught(logits, found[other][0][1].argmax(1), valid)
        assert found["losses"][f"unlabeled_{side}"] == pytest.approx(expected, rel=1e-5)
        expected = mean_cross_entropy(logits[:2], labeled.label.numpy())
        assert found["losses"][f"supervised_{side}"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cutmix", [True, False])
def test_no_network_learns_from_what_it_taught(cutmix):
    method = method_of(cutmix=cutmix, prototypes=PrototypesOptions())
    method.prepare(iter(one_by_one(batches()[0])), clock())
    losses = method(*batches(), clock(5)).losses
    assert len(losses) == 8
    for side, network, other in zip(SIDES, method.networks, reversed(method.networks), strict=True):
        for name in ("supervised", "unlabeled", "prototype", "prototype_unlabeled"):
            own, foreign = (
                torch.autograd.grad(
                    losses[f"{name}_{side}"], list(part.encoder.parameters()), retain_graph=True, allow_unused=True
                )
                for part in (network, other)
            )
            assert all(gradient is not None and gradient.any() for gradient in own), (name, side)
            assert all(gradient is None for gradient in foreign), (name, side)


def test_what_is_said_of_padding_teaches_nothing():
    method = method_of()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, requires_grad=True)
    valid = torch.rand(2, 4, 5, generator=generator) < 0.5
    label = torch.randint(0, 3, (2, 4, 5), generator=generator).byte()
    other = torch.where(valid, label, (label + 1) % 3)
    confidence = torch.rand(2, 4, 5).half()
    losses = [method.cross_entropy(logits, PseudoLabel(each, confidence, valid)) for each in (label, other)]
    assert losses[0] == losses[1] > 0
    losses[0].backward()
    assert not logits.grad[~valid[:, None].expand_as(logits)].any()
    nothing = method.cross_entropy(logits, PseudoLabel(label, confidence, torch.zeros_like(valid)))
    assert nothing == 0


def test_labelling_unmixed_images_moves_the_statistics():
    """In train mode, as in the original: by the unmixed images, then by those that are learnt from."""
    method, twin = method_of(), segmentor()
    found = observed(method)
    for image, _ in found["left"]:
        twin(image)
    mine, expected = (network.encoder.shallow[1] for network in (method.student, twin))
    torch.testing.assert_close(mine.running_mean, expected.running_mean)
    assert mine.num_batches_tracked == 2
    assert len(observed(method_of(cutmix=False))["left"]) == 1


def test_under_autocast_everything_learns():
    """What autocast cast while labels were asked for has no gradient, and may not be taken for the pass that learns."""
    method = method_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(*batches(), clock(5)).loss
    loss.backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []


# ---- two networks ----


def test_the_warm_up_teaches_both():
    method = method_of(total_steps=20, warmup=0.25)
    labeled, unlabeled = batches()
    result = method(labeled, unlabeled, clock(4, 20))
    assert list(result.losses) == ["supervised_left", "supervised_right"]
    for side, network in zip(SIDES, method.networks, strict=True):
        logits = network(labeled.image).logits.detach().double().numpy()
        expected = mean_cross_entropy(logits, labeled.label.numpy())
        assert result.losses[f"supervised_{side}"].item() == pytest.approx(expected, rel=1e-5)


def test_both_start_differently_and_stay_apart():
    method = method_of()
    optimizer = optimizer_of(method)
    for step in range(3):
        train_step(method, optimizer, batches(seed=step), clock(step))
    pairs = zip(method.student.parameters(), method.right.parameters(), strict=True)
    assert sum(not left.equal(right) for left, right in pairs) > 4


def test_each_has_prototypes_in_its_own_feature_space():
    method = method_of(prototypes=PrototypesOptions(per_class=2))
    labeled, _ = batches(labeled=4)
    method.prepare((batch for batch in one_by_one(labeled)), clock())  # read once, as the trainer gives them
    left, right = method.prototypes.predictor, method.right_prototypes.predictor
    for prototypes, network in zip((left, right), method.networks, strict=True):
        assert prototypes.ready.all()
        with torch.no_grad():
            features = network.eval()(labeled.image).features
        nearest = (features.flatten(2).transpose(1, 2).reshape(-1, 1, 11) - prototypes.prototypes.view(1, -1, 11)).norm(
            dim=2
        )
        assert nearest.amin(0).max() < features.std() * 3
    assert not torch.allclose(left.prototypes, right.prototypes, atol=0.1)
    method.train()
    method(*batches(), clock(5))
    before = [prototypes.prototypes.clone() for prototypes in (left, right)]
    method.after_step(clock(5))
    assert not before[0].equal(left.prototypes)
    assert not before[1].equal(right.prototypes)
    figures, _ = method.health()
    assert figures["prototype_usage"] == left.health().usage.round(4).tolist()
    assert figures["prototype_usage_right"] == right.health().usage.round(4).tolist()


def test_prototypes_are_evaluated_once_they_have_a_place():
    method = CPS(segmentor(), CPSOptions(prototypes=PrototypesOptions(), report="right"), setting())
    image = torch.randn(1, 3, 7, 8)
    assert list(method.predictor(image)) == ["linear", "right", "left", "mean"]
    method.prepare(iter(one_by_one(batches()[0])), clock())
    predictor = method.predictor
    assert list(predictor(image)) == ["linear", "prototype", "right", "left", "mean"]
    assert predictor.segmentor is method.right
    assert predictor.prototypes is method.right_prototypes.predictor
