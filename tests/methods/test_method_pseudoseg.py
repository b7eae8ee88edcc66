"""PseudoSeg: its activation maps, its fusion and its step against loops."""

import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, probabilities
from support.tiny import batches, clock, segmentor, setting
from torch.nn import functional as F

from semiseg.config.methods import PseudoSegOptions
from semiseg.methods.details.pseudoseg_attention import AttentionCAM, attend
from semiseg.methods.pseudoseg import PseudoSeg
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import classes_shown, presence_loss, soft_cross_entropy
from semiseg.parts.mixing import squares
from semiseg.parts.pseudo_labels import calibrated_fusion
from semiseg.parts.segmentor import resize
from semiseg.types import IGNORE


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def head(background: bool = True) -> AttentionCAM:
    """Of maps with 3 and 5 channels, four classes."""
    torch.manual_seed(0)
    made = AttentionCAM((3, 5), 4, background, channels=6)
    with torch.no_grad():
        made.presence.weight.mul_(3)
    return made


# ---- class activation maps ----


@pytest.mark.parametrize("background", [True, False])
def test_the_closed_form_is_grad_cam(background):
    made, deepest = head(background), normal(3, 5, 4, 6).requires_grad_()
    shown = made.shown(deepest)
    found = made.class_maps(deepest)
    assert found.shape == (3, 4 - background, 4, 6)
    for k in range(4 - background):
        (gradient,) = torch.autograd.grad(shown[:, k].sum(), deepest, retain_graph=True)
        weights = gradient.mean((2, 3), keepdim=True)  # how Grad-CAM weighs the channels
        cam = (weights * deepest).sum(1).relu()  # (B, h, w)
        cam = cam / cam.amax((1, 2), keepdim=True) * (shown[:, k].sigmoid() >= 0.5)[:, None, None]
        torch.testing.assert_close(found[:, k], cam.detach())
    assert 0 < (found.amax((2, 3)) == 1).float().mean() < 1, "classes are predicted in some images, not in all"
    assert not found.requires_grad


def test_the_classes_that_are_given_show_whatever_is_predicted():
    made, deepest = head(), normal(3, 5, 4, 6)
    predicted = made.shown(deepest) >= 0
    given = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    assert (given & ~predicted).any()
    assert (predicted & ~given).any()
    found, own = made.class_maps(deepest, given), made.class_maps(deepest)
    for b, k in np.ndindex(3, 3):
        cam = (made.presence.weight[k].detach()[:, None, None] * deepest[b]).sum(0).relu()
        torch.testing.assert_close(found[b, k], cam / cam.max() * float(given[b, k]))
        assert predicted[b, k] or not own[b, k].any()


def test_a_class_without_a_positive_place_has_a_map_of_0():
    made = head()
    with torch.no_grad():
        made.presence.weight.fill_(-1.0)
        made.presence.bias.fill_(100.0)
    assert made.class_maps(normal(2, 5, 4, 6).abs()).eq(0).all()


def test_attention_by_loops():
    query, key, values = normal(2, 6, 3, 4), normal(2, 6, 3, 4, seed=1), normal(2, 2, 3, 4, seed=2)
    places = torch.rand(2, 3, 4, generator=seeded()) < 0.6
    found = attend(query, key, values, places)
    q, k, v = (maps.double().numpy() for maps in (query, key, values))
    for b, y, x in np.ndindex(2, 3, 4):
        there = np.argwhere(places[b].numpy())
        scores = np.array([q[b, :, y, x] @ k[b, :, i, j] / math.sqrt(6) for i, j in there])
        expected = probabilities(scores) @ np.array([v[b, :, i, j] for i, j in there])
        np.testing.assert_allclose(found[b, :, y, x].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("background", [True, False])
def test_the_second_segmentation(background):
    made = head(background).eval()
    pyramid, valid = [normal(2, 3, 8, 12), normal(2, 5, 4, 6, seed=1)], torch.ones(2, 16, 24, dtype=torch.bool)
    valid[0, :, 12:] = False
    columns = torch.cat([resize(pyramid[0], (4, 6)), pyramid[1]], 1)
    cam = made.class_maps(pyramid[1])
    refined = attend(made.query(columns), made.key(columns), cam, valid[:, ::4, ::4]) + cam
    channels = [refined[:, k] for k in range(refined.shape[1])]
    if background:
        channels = [2 - torch.stack(channels).amax(0), *channels]
    weight = made.combine[0].weight[:, :, 0, 0]
    with torch.no_grad():
        made.bias.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    mixed = [sum(weight[c, k] * channels[k] for k in range(4)) / math.sqrt(1 + made.combine[1].eps) for c in range(4)]
    expected = resize(torch.stack([mixed[c] + made.bias[c] for c in range(4)], 1), (16, 24))
    torch.testing.assert_close(made(pyramid, valid), expected)


def test_padding_is_not_looked_at_and_an_image_of_padding_alone_is_finite():
    made = head().eval()
    shallow, deep = normal(2, 3, 4, 6), normal(2, 5, 4, 6, seed=1)
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[0, :, 4:] = False
    valid[1] = False
    other = deep.clone()
    other[0, :, :, 4:] *= 0.5  # too weak to change the maximum or the sign of the mean
    made.class_maps = lambda *given: normal(2, 3, 4, 6, seed=2)
    found, changed = (made([shallow, maps], valid) for maps in (deep, other))
    assert found[0, :, :, :4].equal(changed[0, :, :, :4])
    assert found.isfinite().all()


def test_only_the_classifier_reaches_the_encoder():
    made, pyramid = head(), [normal(2, 3, 8, 12).requires_grad_(), normal(2, 5, 4, 6, seed=1).requires_grad_()]
    made(pyramid, torch.ones(2, 16, 24, dtype=torch.bool)).square().sum().backward()
    assert [maps.grad for maps in pyramid] == [None, None]
    assert made.presence.weight.grad is None
    assert all(layer.weight.grad.any() for layer in (made.query, made.key, made.combine[0]))
    assert made.bias.grad.any()
    made.shown(pyramid[1]).sum().backward()
    assert pyramid[1].grad.any()


# ---- labels ----


def fusion_by_loops(logits, others, valid, temperature) -> np.ndarray:
    z, g = logits.double().numpy(), others.double().numpy()
    there = np.argwhere(valid.numpy())
    numbers = [value for maps in (z, g) for b, y, x in there for value in maps[b, :, y, x]]
    scale = math.sqrt(sum(value**2 for value in numbers) / len(numbers))
    found = np.zeros_like(z)
    for b, y, x in np.ndindex(*valid.shape):
        mean = (probabilities(z[b, :, y, x] / scale) + probabilities(g[b, :, y, x] / scale)) / 2
        sharp = mean ** (1 / temperature)
        found[b, :, y, x] = sharp / sharp.sum()
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 0.1])
def test_the_calibrated_fusion_by_loops(temperature):
    logits, others, valid = 5 * normal(2, 3, 4, 5), 0.3 * normal(2, 3, 4, 5, seed=1), normal(2, 4, 5, seed=2) > -0.5
    found = calibrated_fusion(logits, others, valid, temperature)
    np.testing.assert_allclose(found.numpy(), fusion_by_loops(logits, others, valid, temperature), rtol=1e-4, atol=1e-6)


def test_one_scale_for_both_and_padding_has_no_say_in_it():
    logits, others, valid = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1), normal(2, 4, 5, seed=2) > -0.5
    found = calibrated_fusion(logits, others, valid, 0.5)
    torch.testing.assert_close(calibrated_fusion(7 * logits, 7 * others, valid, 0.5), found)
    assert not torch.allclose(calibrated_fusion(7 * logits, others, valid, 0.5), found, atol=1e-2)
    padded = torch.where(valid[:, None], logits, 100.0)
    assert calibrated_fusion(padded, others, valid, 0.5)[0, :, valid[0]].equal(found[0, :, valid[0]])
    assert calibrated_fusion(0 * logits, others, torch.zeros_like(valid), 0.5).isfinite().all()


def test_soft_cross_entropy_by_loops():
    logits, target, valid = normal(2, 3, 4, 5), (2 * normal(2, 3, 4, 5, seed=1)).softmax(1), normal(2, 4, 5) > 0
    expected = [
        -sum(target[b, :, y, x].double().numpy() * np.log(probabilities(logits[b, :, y, x].double().numpy())))
        for b, y, x in np.argwhere(valid.numpy())
    ]
    assert float(soft_cross_entropy(logits, target, valid)) == pytest.approx(np.mean(expected), rel=1e-5)
    other = torch.where(valid[:, None], logits, 50.0)
    assert soft_cross_entropy(other, target, valid) == soft_cross_entropy(logits, target, valid)
    assert soft_cross_entropy(logits, target, torch.zeros_like(valid)) == 0


@pytest.mark.parametrize("asked", [3, 4])
def test_the_presence_loss_by_loops(asked):
    label = torch.tensor([[[0, 1, 1]], [[3, IGNORE, 0]], [[IGNORE] * 3]])
    logits = normal(3, asked)
    expected = []
    for b, shown in enumerate([{0, 1}, {0, 3}]):
        for k, number in enumerate(range(4 - asked, 4)):
            p = 1 / (1 + math.exp(-float(logits[b, k])))
            expected.append(-math.log(p if number in shown else 1 - p))
    assert float(presence_loss(logits, classes_shown(label, 4))) == pytest.approx(np.mean(expected), rel=1e-5)
    assert presence_loss(logits, classes_shown(torch.full_like(label, IGNORE), 4)) == 0


def test_the_classes_of_a_label_are_those_of_its_pixels():
    label = torch.randint(0, 5, (6, 2, 2), generator=seeded())
    label[1] = IGNORE
    label[2, 0] = IGNORE
    found = classes_shown(label, 5)
    assert found.dtype == torch.bool
    assert found.tolist() == [[bool((one == k).any()) for k in range(5)] for one in label]


def test_squares_lie_around_a_uniform_middle():
    image = torch.empty(400, 3, 30, 50)
    found = squares(image, 0.2, seeded())
    draws = torch.rand(400, 2, generator=seeded()).double().numpy()
    for b in range(400):
        middle = draws[b] * (30, 50)
        near = [abs(np.arange(length) + 0.5 - at) < 3 for length, at in zip((30, 50), middle, strict=True)]
        assert found[b].tolist() == np.outer(*near).tolist()
    assert 36 * 0.75 < float(found.sum((1, 2)).float().mean()) < 36
    assert not squares(image, 0.0, seeded()).any()


# ---- a step ----


@pytest.mark.parametrize("background", [True, False])
def test_a_step_by_loops(background):
    options = PseudoSegOptions(background=background, unlabeled_weight=2.0, presence_weight=0.3, cutout=0.5, warmup=0.2)
    method = PseudoSeg(segmentor(), options, setting()).train()
    with torch.no_grad():  # of the weak view all classes are predicted, on labelled images too
        method.attention.presence.bias.fill_(50.0)
    labeled, unlabeled = batches()
    labeled.label[0][labeled.label[0] == 2] = 1  # what the first image does not show
    seen: list = []
    method.student.encoder.register_forward_hook(lambda _, images, pyramid: seen.append(images[0]))
    answers: list = []
    method.student.decoder.register_forward_hook(lambda _, maps, output: answers.append(resize(output[0], (9, 11))))
    attended: list = []
    method.attention.register_forward_hook(lambda _, given, output: attended.append((given, output)))
    losses = {name: loss.item() for name, loss in method(labeled, unlabeled, clock(5)).losses.items()}

    generator = clock(5).generator
    strong = strong_view(unlabeled.image, method.context.augment, generator)
    hole = squares(strong, 0.5, generator)
    assert seen[0].equal(unlabeled.image)
    assert seen[1].equal(torch.cat([labeled.image, strong.masked_fill(hole[:, None], 0)]))
    (weak_given, weak), ((pyramid, known, present), on_labels) = attended
    assert len(weak_given) == 2  # nobody knows what unlabelled images show
    assert known.equal(labeled.label != IGNORE)
    truth = torch.tensor([[True, True, False], [True, True, True]])[:, background:]
    assert present.equal(truth)
    assert not weak.requires_grad
    target = fusion_by_loops(answers[0], weak, unlabeled.valid, 0.5)
    logits = answers[1].detach().double().numpy()
    soft = [
        -sum(target[b, :, y, x] * np.log(probabilities(logits[2 + b, :, y, x])))
        for b, y, x in np.argwhere((unlabeled.valid & ~hole).numpy())
    ]
    label = labeled.label.numpy()
    shown = method.attention.shown(pyramid[-1]).detach()
    expected = {
        "supervised": mean_cross_entropy(logits[:2], label),
        "attention": mean_cross_entropy(on_labels.detach().double().numpy(), label),
        "presence": 0.3 * F.binary_cross_entropy_with_logits(shown, truth.float()).item(),
        "unlabeled": 2.0 * np.mean(soft),
    }
    assert losses == pytest.approx(expected, rel=1e-4)
    warm = method(labeled, unlabeled, clock(1)).losses
    assert set(warm) == {"supervised", "attention", "presence"}


def test_without_a_labelled_pixel_the_predicted_classes_show():
    method = PseudoSeg(segmentor(), PseudoSegOptions(background=True), setting())
    with torch.no_grad():
        method.attention.presence.weight.zero_()
        method.attention.presence.bias.copy_(torch.tensor([1.0, -1.0]))
    given: list = []
    method.attention.register_forward_pre_hook(lambda _, arguments: given.append(arguments[2:]))
    labeled, unlabeled = batches()
    labeled.label[0] = IGNORE
    method(labeled, unlabeled, clock(5))
    assert given[0] == ()
    assert given[1][0].tolist() == [[True, False], [True, True]]


def test_only_the_network_itself_is_evaluated():
    method = PseudoSeg(segmentor(), PseudoSegOptions(), setting())
    assert method.predictor.segmentor is method.student
