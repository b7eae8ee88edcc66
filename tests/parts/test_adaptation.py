"""Pseudo-labels for rare classes against plain loops, and what a method remembers of unlabelled images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import started
from support.tiny import batches, clock, segmentor, setting

from semiseg.config.methods.shared import AdaptOptions
from semiseg.config.options import LossOptions
from semiseg.methods import METHODS
from semiseg.parts.adaptation import ClassAdaptation
from semiseg.parts.pseudo_labels import aligning_shift, class_thresholds
from semiseg.types import IGNORE

PIXELS = torch.tensor([700, 250, 50])
shares = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(lambda s: [x / max(1.0, sum(s)) for x in s])
labelled = st.lists(st.integers(0, 10**6), min_size=3, max_size=3).filter(any)


def case(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=generator)
    return logits, torch.rand(2, 4, 5, generator=generator) < 0.8


@given(st.integers(0, 1000), labelled, shares)
def test_aligned_probabilities_are_remixmatchs(seed, pixels, seen):
    logits, _ = case(seed)
    shift = aligning_shift(torch.tensor(seen), torch.tensor(pixels))
    found = (logits + shift[:, None, None]).softmax(1).numpy()
    for b, y, x in [(0, 0, 0), (1, 3, 4)]:
        p = logits[b, :, y, x].double().softmax(0).tolist()
        scaled = [p[c] * pixels[c] / sum(pixels) / max(seen[c], 1e-6) for c in range(3)]
        np.testing.assert_allclose(found[b, :, y, x], [value / sum(scaled) for value in scaled], atol=1e-4)


@given(labelled, shares)
def test_class_thresholds_are_flexmatchs_over_what_the_labels_lead_to_expect(pixels, sure):
    total = sum(pixels)
    learnt = [min(1.0, s / (n / total)) if n else 1.0 for s, n in zip(sure, pixels, strict=True)]
    beta = [value / max(*learnt, 1 - sum(sure)) for value in learnt]
    expected = [0.8 * value / (2 - value) for value in beta]
    found = class_thresholds(torch.tensor(sure), torch.tensor(pixels), 0.8)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ((found >= 0) & (found <= 0.8 + 1e-6)).all()


def made(kind, **changes):
    return ClassAdaptation(AdaptOptions(adapt=kind, **changes), 0.8, None if kind == "none" else PIXELS)


@pytest.mark.parametrize("kind", ["distribution", "thresholds"])
def test_it_starts_as_if_unlabelled_images_were_as_the_labelled_ones(kind):
    adaptation, (logits, valid) = made(kind), case(0)
    torch.testing.assert_close(adaptation.logits(logits, valid).softmax(1), logits.softmax(1))
    limits = adaptation.limits(logits.argmax(1))
    assert limits == 0.8 if kind == "distribution" else torch.allclose(limits, torch.tensor(0.8))
    assert torch.equal(adaptation.confident(logits.softmax(1)), logits.softmax(1).amax(1) >= limits)


def test_off_nothing_is_remembered_or_changed():
    adaptation, (logits, valid) = made("none"), case(0)
    assert adaptation.logits(logits, valid) is logits
    assert adaptation.limits(logits.argmax(1)) == 0.8
    adaptation.follow()
    assert not adaptation.state_dict()


@pytest.mark.parametrize("kind", ["distribution", "thresholds"])
def test_the_memory_follows_the_valid_pixels_of_all_passes_of_a_step(kind):
    adaptation, parts = made(kind, adapt_momentum=0.75), [case(1), case(2)]
    sums, number = np.zeros(3), 0
    for logits, valid in parts:
        adaptation.logits(logits, valid)
        probability = logits.double().softmax(1).numpy()
        for b, y, x in np.argwhere(valid.numpy()):
            p, number = probability[b, :, y, x], number + 1
            sums += p if kind == "distribution" else (np.arange(3) == p.argmax()) * (p.max() >= 0.8)
    adaptation.follow()
    expected = 0.75 * PIXELS.numpy() / 1000 + 0.25 * sums / number
    np.testing.assert_allclose(adaptation.seen, expected, rtol=1e-5)
    kept = adaptation.seen.clone()
    adaptation.follow()
    assert torch.equal(adaptation.seen, kept), "a step of the warm-up, which sees no unlabelled image, changes nothing"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_what_lies_on_padding_does_not_matter(seed):
    logits, valid = case(seed)
    other = torch.where(valid[:, None], logits, -5 * logits)
    for kind in ("distribution", "thresholds"):
        one, two = made(kind), made(kind)
        one.logits(logits, valid), two.logits(other, valid)
        torch.testing.assert_close(one.fresh, two.fresh)


def test_a_class_that_the_teacher_names_too_rarely_is_raised():
    """Class 2 has 5 % of the labels and the teacher gives it 1 %: it is raised, and its threshold lowered."""
    logits = torch.tensor([0.74, 0.25, 0.01]).log().view(1, 3, 1, 1).expand(1, 3, 8, 8)
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    aligning, limiting = (made(kind, adapt_momentum=0.5) for kind in ("distribution", "thresholds"))
    for _ in range(20):
        aligned = aligning.logits(logits, valid).softmax(1)[0, :, 0, 0]
        limiting.logits(logits, valid)
        aligning.follow(), limiting.follow()
    np.testing.assert_allclose(aligned, PIXELS / 1000, atol=1e-3)
    sure = made("thresholds")
    sure.seen.copy_(torch.tensor([0.7, 0.25, 0.005]))
    common, rare = sure.limits(torch.tensor([0, 2])).tolist()
    assert common == pytest.approx(0.8)
    assert rare == pytest.approx(0.8 * 0.1 / 1.9)
    probability = torch.tensor([[0.1, 0.75, 0.15], [0.1, 0.6, 0.3], [0.2, 0.15, 0.65], [0.79, 0.2, 0.01]])
    wanted = [row.max().item() >= sure.limits(row.argmax()[None])[0].item() for row in probability]
    assert sure.confident(probability.T[None, :, None])[0, 0].tolist() == wanted
    assert len(set(wanted)) == 2
    assert len(sure.limits(torch.tensor([[IGNORE, 0]], dtype=torch.uint8))) == 1


@pytest.mark.parametrize("adapt", ["none", "distribution", "thresholds"])
@pytest.mark.parametrize("name", ["prototype", "cutmix"])
def test_methods_learn_with_it_and_remember_it(name, adapt):
    options = {"adapt": adapt, "adapt_momentum": 0.5, "warmup": 0.0, "threshold": 0.6}
    options |= {"prototypes": None} if name == "prototype" else {}
    method = METHODS[name](segmentor(), context=setting(class_pixels=(90, 110, 100)), **options)
    plain = METHODS[name](segmentor(), context=setting(), **{**options, "adapt": "none"})
    assert (set(method.state_dict()) > set(plain.state_dict())) == (adapt != "none")
    results = {}
    for each in (method, plain):
        logits = started(each).teacher(batches()[1].image).logits
        with torch.no_grad():  # so that it names every class
            each.teacher.segmentor.decoder.classifier[1].bias.sub_(logits.mean((0, 2, 3)))
            each.teacher.segmentor.decoder.classifier[1].weight.mul_(4)
        first = each(*batches(), clock(5))
        each.after_step(clock(5))
        results[each] = [first, each(*batches(), clock(6))]
    unlabelled = "unlabeled" if name == "prototype" else "consistency"
    before, after = ([float(results[each][n].losses[unlabelled].detach()) for each in (method, plain)] for n in (0, 1))
    assert before[0] == pytest.approx(before[1], rel=1e-3)
    assert all(map(math.isfinite, after))
    assert (after[0] != after[1]) == (adapt != "none")
    if adapt != "none":
        other = METHODS[name](segmentor(), context=setting(class_pixels=(1, 1, 1)), **options)
        other.load_state_dict(method.state_dict())
        assert torch.equal(other.adaptation.seen, method.adaptation.seen)
        assert other.adaptation.class_pixels.tolist() == other.class_pixels.tolist() == [90, 110, 100]


def test_without_the_counts_it_says_what_to_give():
    for wanted in ({"adapt": "distribution"}, {"loss": LossOptions(class_weights="sqrt")}):
        with pytest.raises(ValueError, match=r"class_pixels is not given.*how many labelled pixels each of the 3"):
            METHODS["cutmix"](segmentor(), context=setting(), **wanted)
    with pytest.raises(ValueError, match=r"class_pixels is 2 numbers"):
        METHODS["supervised"](
            segmentor(), context=replace(setting(), loss=LossOptions(logit_adjust=1.0), class_pixels=(1, 2))
        )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_methods_labelled_loss_has_them(name):
    """One place for all: the loss on labelled images is another with weights, and has Dice beside it."""
    options = LossOptions(class_weights="sqrt", dice=0.5)
    method = METHODS[name](segmentor(), context=setting(class_pixels=(700, 250, 50), loss=options))
    plain = METHODS[name](segmentor(), context=setting())
    labeled, _ = batches()
    found, before = (each.supervised(segmentor()(labeled.image), labeled) for each in (method, plain))
    assert set(found) == {*before, "dice"}
    assert not torch.isclose(found["supervised"], before["supervised"])
    assert float(found["dice"].detach()) > 0
