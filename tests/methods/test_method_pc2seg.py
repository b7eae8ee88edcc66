"""PC2Seg's contrastive loss and its step against loops."""

import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, probabilities
from support.tiny import batches, clock, segmentor, setting
from torch import Tensor

from semiseg.config.methods import PC2SegOptions
from semiseg.methods.details.pc2seg_contrast import debiased_contrast
from semiseg.methods.pc2seg import PC2Seg
from semiseg.parts.augment import strong_view
from semiseg.parts.sampling import grid_points
from semiseg.parts.segmentor import resize

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def case(seed: int, batch: int = 3, points: int = 4) -> Case:
    """Anchors and keys (B, N, 5), class distributions (B, N, 3), usable (B, N)."""
    generator = torch.Generator().manual_seed(seed)
    anchors, keys = torch.randn(2, batch, points, 5, generator=generator)
    classes = (2 * torch.randn(batch, points, 3, generator=generator)).softmax(2)
    return anchors, keys, classes, torch.rand(batch, points, generator=generator) < 0.7


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def terms(made: Case, temperature: float) -> list[tuple[float, list[float], list[float]]]:
    """Of each usable anchor: e_ii, the e_ij of all its negatives, their weights of sum 1."""
    anchors, keys, classes, usable = (tensor.double().numpy() for tensor in made)
    found = []
    for b, i in np.argwhere(usable):
        likeness, weights = [], []
        for c, j in np.argwhere(usable):
            if c != b:
                likeness.append(math.exp(cosine(anchors[b, i], keys[c, j]) / temperature))
                weights.append(1 - float(classes[b, i] @ classes[c, j]))
        own = math.exp(cosine(anchors[b, i], keys[b, i]) / temperature)
        found.append((own, likeness, [weight / sum(weights) for weight in weights]))
    return found


@pytest.mark.parametrize(("seed", "temperature", "negatives"), [(0, 0.5, 7), (1, 0.1, 200), (2, 1.0, 1)])
def test_the_contrastive_loss_by_loops(seed, temperature, negatives):
    made = case(seed)
    losses = [
        -math.log(own / (own + negatives * sum(w * e for w, e in zip(weights, likeness, strict=True))))
        for own, likeness, weights in terms(made, temperature)
    ]
    found = debiased_contrast(*made, temperature, negatives)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_sum_is_what_drawn_negatives_come_to_on_average():
    made, rng = case(3), np.random.default_rng(0)
    means = []
    for own, likeness, weights in terms(made, 0.5):
        drawn = rng.choice(likeness, (4000, 50), p=weights).sum(1)
        means.append(math.log((own + drawn.mean()) / own))
    assert float(debiased_contrast(*made, 0.5, 50)) == pytest.approx(np.mean(means), rel=0.01)


def test_points_of_the_own_image_of_the_own_class_and_on_padding_are_no_negatives():
    anchors, keys, _, _ = case(4)
    everything = torch.ones(3, 4, dtype=torch.bool)
    classes = torch.eye(3)[torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])]
    before = debiased_contrast(anchors, keys, classes, everything, 0.5, 10)
    alone = everything.clone()
    alone[0, 1:] = False  # of image 0 the point of class 0 remains, whose one negative is the last of image 2
    alone[1:] = False
    alone[2, 3] = True
    other = keys.clone()
    other[0, 1:], other[1], other[2, :3] = 5.0, -3.0, 2.0
    found, changed = (debiased_contrast(anchors, each, classes, alone, 0.5, 10) for each in (keys, other))
    assert found == changed
    assert not torch.isclose(before, debiased_contrast(anchors, other, classes, everything, 0.5, 10))


def test_without_points_or_other_images_it_is_0_with_a_gradient_of_0():
    anchors, keys, classes, usable = case(5)
    nothing = torch.zeros_like(usable)
    for made in ((anchors, keys, classes, nothing), tuple(tensor[:1] for tensor in case(5))):
        leaf = made[0].clone().requires_grad_()
        loss = debiased_contrast(leaf, *made[1:], 0.1, 200)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0, abs=1e-30)
        torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf), rtol=0, atol=1e-30)


def test_the_gradient_is_the_anchors_alone_and_draws_them_to_their_keys():
    anchors, keys, classes, usable = case(6)
    anchors.requires_grad_()
    keys.requires_grad_()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(debiased_contrast(anchors, keys, classes, usable, 0.5, 1), anchors)
        anchors = (anchors - gradient).detach().requires_grad_()
    rows = zip(anchors.detach()[usable].numpy(), case(6)[0][usable].numpy(), keys.detach()[usable].numpy(), strict=True)
    pairs = [(cosine(after, key), cosine(before, key)) for after, before, key in rows]
    assert np.mean(pairs, 0)[0] > np.mean(pairs, 0)[1] + 0.3
    assert keys.grad is None


def test_a_step_by_loops():
    options = PC2SegOptions(unlabeled_weight=2.0, contrast_weight=0.7, temperature=0.5, negatives=9, grid=3)
    method = PC2Seg(segmentor(), options, setting()).train()
    labeled, unlabeled = batches()
    seen = []
    method.student.register_forward_hook(lambda _, images, output: seen.append((images[0], output)))
    losses = {name: loss.item() for name, loss in method(labeled, unlabeled, clock(5)).losses.items()}
    (weak_image, weak), (together, output) = seen
    generator = clock(5).generator
    strong = strong_view(unlabeled.image, method.context.augment, generator)
    assert weak_image.equal(unlabeled.image)
    assert together.equal(torch.cat([labeled.image, strong]))
    assert not weak.logits.requires_grad

    logits, target = output.logits.detach().double().numpy(), weak.logits.double().numpy()
    squares = []
    for b, y, x in np.argwhere(unlabeled.valid.numpy()):
        p, q = probabilities(logits[2 + b, :, y, x]), probabilities(target[b, :, y, x])
        squares.append(sum((p - q) ** 2))
    points = grid_points(9, 11, 3, generator)
    upsampled = [resize(each.features, (9, 11)).detach() for each in (output, weak)]
    picked = [torch.stack([maps[:, :, y, x] for y, x in points], 1) for maps in (upsampled[0][2:], upsampled[1])]
    classes = torch.stack([weak.logits.softmax(1)[:, :, y, x] for y, x in points], 1)
    usable = torch.stack([unlabeled.valid[:, y, x] for y, x in points], 1)
    contrast = debiased_contrast(*(method.projector(each) for each in picked), classes, usable, 0.5, 9)
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()),
        "consistency": 2.0 * sum(squares) / len(squares),
        "contrast": 0.7 * contrast.item(),
    }
    assert losses == pytest.approx(expected, rel=1e-4)
