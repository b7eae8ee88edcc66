"""AEL's step against a slow twin, and what each of its parts changes."""

import math

import numpy as np
import pytest
import torch
from support.oracles import observed, probabilities, started
from support.tiny import batches, clock, segmentor, setting
from torch import Tensor

from semiseg.config.methods import AELOptions
from semiseg.methods.ael import AEL
from semiseg.methods.details.ael_bank import NOTICE
from semiseg.methods.details.ael_pasting import hard_classes, pixel_dice, region_boxes
from semiseg.parts.losses import weighted_cross_entropy
from semiseg.parts.mixing import french_boxes
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import IGNORE

CONFIDENCE = [0.2, 0.5, 0.8]


def method_with(**options) -> AEL:
    """Past the warm-up, with a bank that knows something."""
    fixed = {"threshold": 0.5, "bank_area": 0.3, "box_area": 0.05, "paste_probability": 1.0}
    method = started(AEL(segmentor(aux=False), AELOptions(**{**fixed, **options}), setting()))
    assert isinstance(method, AEL)
    method.bank.confidence.copy_(torch.tensor(CONFIDENCE))
    method.bank.wishes[5 % NOTICE] = torch.tensor(
        [[2, 1, 0, 3, 3, 3, 3, 3], [0, 1, 2, 0, 0, 0, 0, 0]]
    )  # partners' order
    return method


# ---- the loss ----


def twin_weighted(logits: np.ndarray, label: np.ndarray, weight: np.ndarray, kept: np.ndarray) -> float:
    total = sum(
        weight[b, y, x] * -math.log(probabilities(logits[b, :, y, x])[label[b, y, x]]) for b, y, x in np.argwhere(kept)
    )
    return float(total / weight.sum()) if weight.any() else 0.0


def maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (3, 4, 5), generator=generator).byte()
    weight = torch.rand(3, 4, 5, generator=generator) * (torch.rand(3, 4, 5, generator=generator) < 0.6)
    kept = torch.rand(3, 4, 5, generator=generator) < 0.7
    return torch.randn(3, 3, 4, 5, generator=generator), label, weight, kept


def test_the_loss_is_the_weighted_mean():
    logits, label, weight, kept = maps()
    expected = twin_weighted(logits.double().numpy(), label.numpy(), weight.double().numpy(), kept.numpy())
    assert weighted_cross_entropy(logits, label, weight, kept).item() == pytest.approx(expected, rel=1e-5)


def test_logits_of_pixels_without_weight_or_not_kept_do_not_matter():
    logits, label, weight, kept = maps()
    changed = torch.where(((weight == 0) | ~kept)[:, None], torch.randn_like(logits), logits)
    assert weighted_cross_entropy(changed, label, weight, kept) == weighted_cross_entropy(logits, label, weight, kept)


@pytest.mark.parametrize("without", ["weight", "kept"])
def test_nothing_is_0(without):
    logits, label, weight, kept = maps()
    weight, kept = (torch.zeros_like(weight), kept) if without == "weight" else (weight, torch.zeros_like(kept))
    nothing = weighted_cross_entropy(logits.requires_grad_(), label, weight, kept)
    nothing.backward()
    assert nothing == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# ---- the step ----


def twin_weight(said: np.ndarray, shown: np.ndarray, valid: np.ndarray, dice: np.ndarray, options: AELOptions):
    """Label and weight of each pixel, and whether it is kept. said: the teacher's logits (B, C, H, W), shown: the
    student's."""
    label, weight, kept = np.zeros(valid.shape, int), np.zeros(valid.shape), np.zeros(valid.shape, bool)
    hardest = max(1 - value for value in CONFIDENCE)
    for b, y, x in np.ndindex(*valid.shape):
        chances = probabilities(said[b, :, y, x])
        label[b, y, x] = chances.argmax()
        rate = (1 - CONFIDENCE[shown[b, :, y, x].argmax()]) / hardest if options.equalize else 1
        if valid[b, y, x] and dice[b, y, x] < rate:
            weight[b, y, x] = np.float64(np.float16(chances.max())) ** options.gamma
            kept[b, y, x] = chances.max() >= options.threshold
    return label, weight, kept


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 0.5, "equalize": False},
        {"unlabeled_weight": 0.3, "box_area": 1.0},
        {"paste_leave_out": (0, 2)},
    ],
)
def test_a_step_is_what_the_box_says(options):
    method, time = method_with(**options), clock(5)
    labeled, unlabeled = batches()
    partner = unlabeled.partner
    assert partner is not None
    generator, hardness = time.generator, method.bank.hardness
    found = observed(method)  # its clock draws what this one draws

    allowed = torch.tensor([number not in (method.options.paste_leave_out or ()) for number in range(3)])
    pasted = hard_classes(labeled.label, hardness, allowed, 1, 1.0, generator)
    label, image_x = labeled.label.clone(), labeled.image.clone()
    for b, y, x in np.ndindex(*pasted.shape):
        if pasted[b, y, x]:
            label[b, y, x], image_x[b, :, y, x] = labeled.label[1 - b, y, x], labeled.image[1 - b, :, y, x]
    ((seen, said),) = found["teacher"]
    assert seen.equal(torch.cat([image_x, unlabeled.image, partner.image]))

    on_partner = pseudo_label(torch.from_numpy(said[5:]), partner.valid)
    boxes, there = region_boxes(on_partner, torch.tensor([0, 1, 2]), method.options.box_area, generator)
    half = french_boxes(partner.image, generator)
    assert there.any() == (method.options.box_area < 1)
    image_u, said_u, valid_u = unlabeled.image.clone(), said[2:5].copy(), unlabeled.valid.clone()
    for b, y, x in np.ndindex(*valid_u.shape):
        if (boxes if there[b] else half)[b, y, x]:
            image_u[b, :, y, x], said_u[b, :, y, x] = partner.image[b, :, y, x], said[5 + b][:, y, x]
            valid_u[b, y, x] = partner.valid[b, y, x]
    ((seen, shown),) = found["student"]
    assert seen.equal(torch.cat([image_x, image_u]))

    dice = (
        [pixel_dice(seen[:2], generator), pixel_dice(seen[2:], generator)]
        if method.options.equalize
        else [torch.zeros(3, 9, 11)] * 2
    )
    on_x = twin_weight(said[:2], shown[:2], (label != IGNORE).numpy(), dice[0].numpy(), method.options)
    on_u = twin_weight(said_u, shown[2:], valid_u.numpy(), dice[1].numpy(), method.options)
    factor = method.options.unlabeled_weight
    truth = (label != IGNORE).numpy()
    expected = {
        "supervised": twin_weighted(shown[:2], label.masked_fill(label == IGNORE, 0).numpy(), truth * 1.0, truth),
        "consistency_labeled": factor * twin_weighted(shown[:2], *on_x),
        "consistency": factor * twin_weighted(shown[2:], *on_u),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert found["stats"]["kept"].item() == pytest.approx(on_u[2].sum() / valid_u.sum().item())
    assert 0 < found["stats"]["kept"] < 1


@pytest.mark.parametrize(
    ("classes", "options", "left_out"),
    [
        (("ground", "tree", "bird"), {}, []),
        (("Background", "tree", "bird"), {}, [0]),
        (("Background", "tree", "bird"), {"background": False}, []),
        (("ground", "tree", "bird"), {"background": True}, [0]),
        (("Background", "tree", "bird"), {"paste_leave_out": (2, 1)}, [1, 2]),
        (("Background", "tree", "bird"), {"paste_leave_out": ()}, []),
    ],
)
def test_the_background_is_not_pasted_unless_told_otherwise(classes, options, left_out):
    method = AEL(segmentor(), AELOptions(**options), setting(classes=classes))
    assert (~method.pasted_classes).nonzero().flatten().tolist() == left_out


@pytest.mark.parametrize("number", [-1, 3])
def test_a_class_that_is_not_there_cannot_be_left_out(number):
    with pytest.raises(ValueError, match=r"paste_leave_out.*( 0 to 2|expected 0 <= )"):
        AEL(segmentor(), AELOptions(paste_leave_out=(number,)), setting())


def test_a_step_tells_the_bank_what_it_saw():
    method = method_with(bank_momentum=0.5)
    unlabeled = batches()[1]
    assert unlabeled.partner is not None
    found = observed(method)
    ((_, said),) = found["teacher"]
    valid = torch.cat([unlabeled.valid, unlabeled.partner.valid])
    label = torch.from_numpy(said[2:]).argmax(1).masked_fill(~valid, IGNORE)
    expected = torch.zeros_like(method.bank.shows)
    for number in range(3):
        large = ((label == number).flatten(1).sum(1) > 0.3 * 99).tolist()
        for image in range(3):  # the second batch shows them in reverse; what is in both is known by the later view
            expected[number, image] = large[3 + 2 - image]
    assert torch.equal(method.bank.shows, expected)
    before = method.bank.wishes.clone()
    method.after_step(clock(5))
    assert not torch.equal(method.bank.wishes[5 % NOTICE], before[5 % NOTICE])  # for step 8
    assert torch.equal(method.bank.wishes[6 % NOTICE], before[6 % NOTICE])
    assert method.bank.seen.tolist() == [1, 1, 1]


def test_the_bank_observes_the_student_in_the_warm_up_and_asks_for_nothing():
    method = AEL(segmentor(), AELOptions(warmup=0.5), setting())
    labeled, unlabeled = batches()
    assert set(method(labeled, unlabeled, clock(0)).losses) == {"supervised"}
    method.after_step(clock(0))
    assert (method.bank.confidence > 0).all()
    assert method.wanted(4) is None
    assert method.wanted(5) is not None
    assert not method.bank.shows.any()
