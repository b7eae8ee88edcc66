"""CorrMatch: a whole step against loops over pixels, and the threshold from step to step."""

import numpy as np
import pytest
import torch
from support import slow_matching
from support.oracles import mean_cross_entropy, observed, probabilities
from support.slow_matching import labels_of, matched, pasted
from support.tiny import batches, clock, optimizer_of, segmentor, setting, train_step

from semiseg.config.methods import CorrMatchOptions
from semiseg.methods.corrmatch import CorrMatch
from semiseg.methods.details.corrmatch_correlation import regions
from semiseg.parts.augment import strong_view
from semiseg.parts.mixing import small_boxes

THRESHOLD = 0.55


def corrmatch(**options) -> CorrMatch:
    chosen = {"threshold": THRESHOLD, "correlation_channels": 8, "regions": 20, **options}
    student = segmentor()
    torch.manual_seed(1)
    return CorrMatch(student, CorrMatchOptions(**chosen), setting()).train()


def spread_labels(head, label, confidence, valid, rows) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidences of the unlabelled images behind two labelled ones, once they have spread."""
    label, confidence = label.copy(), confidence.copy()
    for b in range(len(label)):
        giving, taking = head.giving[2 + b].detach(), head.taking[2 + b].detach()
        region = regions(giving[:, rows[b]], taking, head.grid, (9, 11)) & valid[b]
        certain = (confidence[b] >= np.float16(THRESHOLD)) & valid[b].numpy()
        label[b], given = slow_matching.spread(label[b], certain, region.numpy(), THRESHOLD)
        confidence[b][given] = 1
    return label, confidence


@pytest.mark.parametrize("soft_target", ["mixed", "unmixed"])
def test_a_step_is_the_formula(soft_target):
    method, seed = corrmatch(unlabeled_weight=3.0, soft_target=soft_target), 2
    heads = []
    method.correlate.register_forward_hook(lambda *call: heads.append(call[2]))
    (labeled, unlabeled), found = batches(), observed(method, seed)
    (weak, logits), (strong, on_strong) = found["student"]
    on_both, on_mixed = heads

    generator = clock(5, seed=seed).generator
    for count, width in ((3, 5), (3, 6), (2, 8), (3, 8)):  # perturbed features, and the head's dropout
        torch.rand(count, width, generator=generator)
    rows = torch.randint(9, (3, 20), generator=generator)
    view = strong_view(unlabeled.image, method.context.augment, generator)
    boxes = small_boxes(view, generator)
    assert weak.equal(torch.cat([labeled.image, unlabeled.image]))
    assert strong.equal(pasted(view, boxes))

    first, confidence = labels_of(logits[2:5])
    label, certain = spread_labels(on_both, first, confidence, unlabeled.valid, rows)
    assert (label != first).any()
    assert (certain != confidence).any()
    soft = torch.from_numpy(logits[2:5]).softmax(1)
    soft = (pasted(soft, boxes) if soft_target == "mixed" else soft).numpy()
    own, target = ((*pair, unlabeled.valid, THRESHOLD) for pair in ((first, confidence), (label, certain)))
    handed, handed_mixed = (head.logits.detach().double().numpy() for head in heads)
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()) / 4,
        "correlation": mean_cross_entropy(handed[:2], labeled.label.numpy()) / 4,
        "unlabeled": 3.0 / 8 * matched(on_strong, *target, boxes),
        "soft": 3.0 / 8 * matched(on_strong, *own, boxes, soft),
        "perturbed": 3.0 / 8 * matched(logits[5:], *own),
        "correlation_strong": 3.0 / 16 * matched(handed_mixed, *target, boxes),
        "correlation_weak": 3.0 / 16 * matched(handed[2:], *own),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    kept = (certain >= np.float16(THRESHOLD))[unlabeled.valid.numpy()].mean()
    assert float(found["stats"]["kept"]) == pytest.approx(kept)
    assert 0.05 < kept < 0.95
    assert on_mixed.logits.shape == (3, 3, 9, 11)


def test_the_head_sees_the_encoders_last_map_and_what_the_decoder_makes_of_it():
    method = corrmatch()
    seen = []
    method.correlate.register_forward_pre_hook(lambda _, given: seen.append(given[:2]))
    student = []
    method.student.encoder.deep.register_forward_hook(lambda *call: student.append(call[2]))
    logits = [answer for _, answer in observed(method)["student"]]
    for (deepest, given), encoded, answered in zip(seen, student, logits, strict=True):
        assert deepest.equal(encoded)
        np.testing.assert_array_equal(given.detach().double().numpy(), answered[: len(encoded)])


def test_the_threshold_follows_the_confidences_of_a_step():
    method = corrmatch(threshold_momentum=0.8, regions=0)
    (labeled, unlabeled), answers = batches(), []
    method.student.register_forward_hook(lambda *call: answers.append(call[2].logits.detach().double().numpy()))
    result = train_step(method, optimizer_of(method), (labeled, unlabeled), clock())
    greatest: dict[int, float] = {}
    for b, y, x in unlabeled.valid.nonzero().tolist():
        found = probabilities(answers[0][2 + b, :, y, x])
        greatest[int(found.argmax())] = max(greatest.get(int(found.argmax()), 0), found.max())
    expected = 0.8 * THRESHOLD + 0.2 * sum(greatest.values()) / len(greatest)
    assert method.threshold == pytest.approx(expected, abs=1e-3)  # confidences are kept in half precision
    assert float(result.stats["threshold"]) == pytest.approx(THRESHOLD)
    assert method.greatest.eq(0).all()


def test_the_threshold_of_two_parts_is_that_of_the_whole():
    """With BatchNorm in eval mode, so that parts answer as the whole does."""
    labeled, unlabeled = batches(4, 4)
    found = []
    for parts in (1, 2):
        method = corrmatch(threshold_momentum=0.5)
        method.student.eval()
        for number in range(parts):
            rows = slice(number * 4 // parts, (number + 1) * 4 // parts)
            part = (labeled._replace(image=labeled.image[rows], label=labeled.label[rows]), unlabeled)
            part = (part[0], unlabeled._replace(image=unlabeled.image[rows], valid=unlabeled.valid[rows]))
            method(*part, clock())
        method.after_step(clock())
        found.append(method.threshold)
    assert found[0] == pytest.approx(found[1])
    assert found[0] > THRESHOLD


def test_warm_up_leaves_the_threshold():
    method = CorrMatch(segmentor(), CorrMatchOptions(warmup=0.5), setting())
    before = method.tau.clone()
    train_step(method, optimizer_of(method), batches(), clock())
    assert method.tau.equal(before)


def test_the_head_learns_with_the_other_heads():
    method = corrmatch()
    assert [group["role"] for group in method.parameter_groups()] == ["encoder", "head", "head"]
    assert {id(p) for p in method.parameter_groups()[2]["params"]} == {id(p) for p in method.correlate.parameters()}
