"""FixMatch, UniMatch and UniMatch V2: a whole step of each against loops over pixels."""

import copy

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, observed, started
from support.slow_matching import labels_of, matched, pasted
from support.tiny import batches, clock, segmentor, setting
from torch import Tensor

from semiseg.config.methods import METHOD_OPTIONS, FixMatchOptions, UniMatchOptions, UniMatchV2Options
from semiseg.config.prototypes import PrototypesOptions
from semiseg.methods import METHODS
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.method import Method
from semiseg.methods.unimatch import UniMatch
from semiseg.methods.unimatch_v2 import UniMatchV2
from semiseg.parts.augment import strong_view
from semiseg.parts.channel_dropout import complementary_factors
from semiseg.parts.matching import match
from semiseg.parts.mixing import small_boxes
from semiseg.types import PseudoLabel

THRESHOLD = 0.55


def strong_and_boxes(method: Method, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a strong view of the step looks like, and its boxes; draws go on from where `generator` is."""
    strong = strong_view(image, method.context.augment, generator)
    boxes = small_boxes(image, generator)
    return pasted(strong, boxes), boxes


def kept_share(confidence: np.ndarray, valid: Tensor) -> float:
    return float((confidence >= np.float16(THRESHOLD))[valid.numpy()].mean())


def test_fixmatch_teaches_the_strong_view_what_is_certain_in_the_weak_one():
    options = FixMatchOptions(threshold=THRESHOLD, unlabeled_weight=3.0)
    method = FixMatch(segmentor(), options, setting()).train()
    (labeled, unlabeled), found = batches(), observed(method, seed=2)
    (first, logits), (second, on_strong) = found["student"]
    image, boxes = strong_and_boxes(method, unlabeled.image, clock(5, seed=2).generator)
    assert first.equal(torch.cat([labeled.image, unlabeled.image]))
    assert second.equal(image)
    assert boxes.any()
    label, confidence = labels_of(logits[2:])
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()) / 2,
        "unlabeled": 3.0 / 2 * matched(on_strong, label, confidence, unlabeled.valid, THRESHOLD, boxes),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert 0.05 < float(found["stats"]["kept"]) < 0.95
    assert float(found["stats"]["kept"]) == pytest.approx(kept_share(confidence, unlabeled.valid))


def test_unimatch_has_two_strong_views_and_perturbed_features():
    options = UniMatchOptions(threshold=THRESHOLD, unlabeled_weight=3.0, feature_dropout=0.4)
    method = UniMatch(segmentor(), options, setting()).train()
    before = copy.deepcopy(method.student)
    (labeled, unlabeled), found = batches(), observed(method, seed=2)
    (weak, logits), (strong, on_strong) = found["student"]
    generator = clock(5, seed=2).generator
    factors = [(torch.rand(3, width, generator=generator) >= 0.4).float() / 0.6 for width in (5, 6)]
    views = [strong_and_boxes(method, unlabeled.image, generator) for _ in range(2)]
    assert weak.equal(torch.cat([labeled.image, unlabeled.image]))
    assert strong.equal(torch.cat([image for image, _ in views]))
    assert not views[0][0].equal(views[1][0])

    pyramid = before.encode(weak)
    dropped = [torch.cat([maps, maps[2:] * f[:, :, None, None]]) for maps, f in zip(pyramid, factors, strict=True)]
    np.testing.assert_allclose(before.decode(dropped, (9, 11)).logits.detach(), logits, rtol=1e-4, atol=1e-4)

    label, confidence = labels_of(logits[2:5])
    target = (label, confidence, unlabeled.valid, THRESHOLD)
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()) / 2,
        "unlabeled": 3.0 / 8 * matched(on_strong[:3], *target, views[0][1]),
        "unlabeled_second": 3.0 / 8 * matched(on_strong[3:], *target, views[1][1]),
        "perturbed": 3.0 / 4 * matched(logits[5:], *target),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert float(found["stats"]["kept"]) == pytest.approx(kept_share(confidence, unlabeled.valid))


def test_unimatch_v2_learns_from_the_teacher_with_channels_shared_out():
    options = UniMatchV2Options(threshold=THRESHOLD, unlabeled_weight=3.0)
    method = started(UniMatchV2(segmentor(), options, setting()))
    before = copy.deepcopy(method.student)
    (labeled, unlabeled), found = batches(), observed(method, seed=2)
    ((taught, answers),) = found["teacher"]
    ((shown, logits),) = found["student"]
    generator = clock(5, seed=2).generator
    views = [strong_and_boxes(method, unlabeled.image, generator) for _ in range(2)]
    assert taught.equal(unlabeled.image)
    assert shown.equal(torch.cat([labeled.image, *(image for image, _ in views)]))

    pyramid = before.encode(shown)
    for maps, (one, other) in zip(pyramid, complementary_factors(3, [5, 6], generator), strict=True):
        maps[2:5] = maps[2:5] * one[:, :, None, None]
        maps[5:] = maps[5:] * other[:, :, None, None]
    np.testing.assert_allclose(before.decode(pyramid, (9, 11)).logits.detach(), logits, rtol=1e-4, atol=1e-4)

    label, confidence = labels_of(answers)
    target = (label, confidence, unlabeled.valid, THRESHOLD)
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()) / 2,
        "unlabeled": 3.0 / 4 * matched(logits[2:5], *target, views[0][1]),
        "unlabeled_second": 3.0 / 4 * matched(logits[5:], *target, views[1][1]),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert float(found["stats"]["kept"]) == pytest.approx(kept_share(confidence, unlabeled.valid))


def test_without_complementary_dropout_the_student_is_itself():
    method = started(UniMatchV2(segmentor(), UniMatchV2Options(complementary_dropout=False), setting()))
    before = copy.deepcopy(method.student)
    ((shown, logits),) = observed(method)["student"]
    np.testing.assert_allclose(before(shown).logits.detach(), logits, rtol=1e-5, atol=1e-5)


def test_the_teacher_of_unimatch_v2_is_slower_than_others():
    assert UniMatchV2Options().ema_decay == 0.996
    assert UniMatchV2Options().teacher_bn == "average"


# ---- what they share ----


def method_of(name: str, **options) -> Method:
    made = METHODS[name](segmentor(), METHOD_OPTIONS[name](**options), setting())
    return made.train()


family = pytest.mark.parametrize("name", ["fixmatch", "unimatch", "unimatch_v2"])


@family
def test_where_nothing_is_certain_labels_alone_teach(name):
    losses = method_of(name, threshold=1.0)(*batches(), clock()).losses
    assert losses["supervised"] > 0
    assert all(loss == 0 for key, loss in losses.items() if key != "supervised")


@family
def test_at_threshold_0_every_pixel_of_an_image_teaches(name):
    assert method_of(name, threshold=0.0)(*batches(), clock()).stats["kept"] == 1


def test_what_is_not_valid_or_not_kept_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    logits, wild = 3 * torch.randn(2, 2, 3, 5, 6, generator=generator)
    label, other = torch.randint(0, 3, (2, 2, 5, 6), generator=generator).byte()
    confidence = torch.rand(2, 5, 6, generator=generator).half()
    valid = torch.rand(2, 5, 6, generator=generator) < 0.7
    target = PseudoLabel(label, confidence, valid)
    used = target.kept(0.5)
    changed = PseudoLabel(label.where(used, other), confidence.masked_fill(~valid, 1), valid)
    found = match(logits.where(used[:, None], wild), changed, 0.5)
    torch.testing.assert_close(found, match(logits, target, torch.tensor(0.5)))
    assert 0 < int(used.sum()) < int(valid.sum()) < valid.numel()


@family
def test_the_prototypes_learn_from_the_first_strong_view(name, monkeypatch):
    method = method_of(name, threshold=THRESHOLD, prototypes=PrototypesOptions(grid=None), unlabeled_weight=3.0)
    labeled, unlabeled = batches()
    method.prepare([labeled._replace(image=labeled.image[:1], label=labeled.label[:1])], clock())
    seen, whole = [], method.prototypes.losses
    monkeypatch.setattr(
        method.prototypes, "losses", lambda *given, **more: seen.append((given, more)) or whole(*given, **more)
    )
    shown = []
    method.student.register_forward_hook(lambda _, given, output: shown.append(output.features))
    losses = method(labeled, unlabeled, clock()).losses
    (((features, label), named),) = seen
    pseudo, kept = named["pseudo"], named["kept"]
    strong = shown[0][2:5] if name == "unimatch_v2" else shown[1][:3]
    assert features.equal(torch.cat([shown[0][:2], strong]))
    assert label.equal(labeled.label)
    assert kept.equal(pseudo.kept(THRESHOLD))
    on_labeled, on_unlabeled = whole(features, label, **named)
    torch.testing.assert_close(losses["prototype"], on_labeled / 2)
    torch.testing.assert_close(losses["prototype_unlabeled"], 3.0 * on_unlabeled / 2)
