"""CCT: its decoders and its step against loops."""

import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, probabilities
from support.tiny import batches, clock, segmentor, setting
from torch.nn import functional as F

from semiseg.config.methods import CCTOptions
from semiseg.config.methods.cct import NEED_BACKGROUND
from semiseg.methods.cct import CCT, AuxiliaryDecoder
from semiseg.parts.segmentor import resize

ORIGINAL = {
    "vat": 2,
    "channel_dropout": 6,
    "guided_cutout": 6,
    "context_masking": 2,
    "object_masking": 2,
    "feature_drop": 6,
    "feature_noise": 6,
}


def made(total_steps: int = 10, classes: tuple[str, ...] = ("background", "tree", "bird"), **options) -> CCT:
    return CCT(segmentor(), CCTOptions(**options), setting(total_steps, classes=classes)).train()


def counts(method: CCT) -> dict[str, int]:
    return {name: len(several) for name, several in method.decoders.items()}


# ---- decoders ----


@pytest.mark.parametrize(("stride", "scale"), [(4, 4), (8, 8), (14, 8), (16, 16), (32, 32)])
def test_a_decoder_starts_as_nearest_neighbour_upsampling(stride, scale):
    torch.manual_seed(0)
    decoder = AuxiliaryDecoder(6, 3, stride)
    with torch.no_grad():
        for layer in list(decoder)[2:]:
            if hasattr(layer, "bias"):
                layer.bias.zero_()
        found = decoder(torch.randn(2, 6, 3, 4))
    assert found.shape == (2, 3, 3 * scale, 4 * scale)
    assert found.equal(F.interpolate(found[:, :, ::scale, ::scale], scale_factor=scale))
    assert found.std() > 0.01


def test_the_original_has_thirty_decoders():
    assert counts(made()) == ORIGINAL
    assert sum(ORIGINAL.values()) == 30
    assert made().student.scales()[-1] == (6, 4)


@pytest.mark.parametrize(
    ("classes", "background", "there"),
    [
        (("background", "a", "b"), None, True),
        (("Background", "a", "b"), None, True),
        (("road", "a", "background"), None, False),
        (("road", "a", "b"), True, True),
        (("background", "a", "b"), False, False),
    ],
)
def test_families_that_need_a_background_drop_out_without_one_and_say_so(caplog, classes, background, there):
    method = made(classes=classes, background=background)
    wanted = {name: count for name, count in ORIGINAL.items() if there or name not in NEED_BACKGROUND}
    assert counts(method) == wanted
    lines = [record.getMessage() for record in caplog.records]
    text = f"cct: {', '.join(NEED_BACKGROUND)} need a background, and class 0 is {classes[0]}: left out."
    assert [line.startswith(text) for line in lines] == ([] if there else [True])


def test_what_nobody_wanted_is_not_missed(caplog):
    none = dict.fromkeys(NEED_BACKGROUND, 0)
    assert counts(made(classes=("a", "b", "c"), **none, vat=0)) == dict.fromkeys(
        ("channel_dropout", "feature_drop", "feature_noise"), 6
    )
    assert not caplog.records
    with pytest.raises(ValueError, match="no auxiliary decoder left"):
        made(classes=("a", "b", "c"), vat=0, channel_dropout=0, feature_drop=0, feature_noise=0)


# ---- a step ----


def test_a_step_by_loops():
    options = {name: 1 for name in ORIGINAL} | {"vat": 2, "unlabeled_weight": 3.0, "ramp": 1.0}
    method = made(**options)
    labeled, unlabeled = batches()
    seen: dict = {"decoded": [], "changes": []}
    method.student.decoder.register_forward_hook(lambda _, maps, output: seen["decoded"].append((maps[0], output[0])))
    perturbation = method.perturbation

    def noted(*arguments):
        seen["changes"].append((arguments, perturbation(*arguments)))
        return seen["changes"][-1][1]

    method.perturbation = noted
    losses = {name: loss.item() for name, loss in method(labeled, unlabeled, clock(5)).losses.items()}
    (_, on_labeled), (pyramid, answer) = seen["decoded"]
    assert not answer.requires_grad
    logits, deep = resize(answer, (9, 11)).double().numpy(), pyramid[-1].detach()
    q = np.stack([[[probabilities(logits[b, :, y, x]) for x in range(11)] for y in range(9)] for b in range(3)])

    distances = []
    for (name, decoder, features, guide, _), change in seen["changes"]:
        assert features.equal(deep)
        for b, y, x in np.ndindex(*guide.shape):  # the nearest of 9 x 11 pixels for 3 x 3 places
            assert guide[b, y, x] == q[b, 3 * y, int(x * 11 / 3)].argmax()
        perturbed = deep + change if name == "vat" else deep * change
        found = resize(decoder(perturbed), (9, 11)).detach().double().numpy()
        valid = np.argwhere(unlabeled.valid.numpy())
        distances.append(np.mean([(probabilities(found[b, :, y, x]) - q[b, y, x]) ** 2 for b, y, x in valid]))
    assert sorted(arguments[0] for arguments, _ in seen["changes"]) == sorted([*ORIGINAL, "vat"])
    expected = {
        "supervised": mean_cross_entropy(resize(on_labeled, (9, 11)).detach().double().numpy(), labeled.label.numpy()),
        "consistency": 3.0 * math.exp(-5 * 0.5**2) * np.mean(distances),
    }
    assert losses == pytest.approx(expected, rel=1e-4)


def test_unlabelled_images_teach_the_encoder_and_the_auxiliary_decoders_alone():
    method = made(ramp=0.0)
    method(*batches(), clock()).losses["consistency"].backward()
    learns = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in learns} == {"student", "decoders"}
    assert not any(name.startswith("student.decoder") for name in learns)
    assert any(name.startswith("student.encoder") for name in learns)
    assert {name.split(".")[1] for name in learns if name.startswith("decoders")} == set(ORIGINAL)


def test_padding_does_not_matter():
    method = made(ramp=0.0, feature_drop=0)
    target = torch.randn(3, 3, 9, 11).softmax(1)
    features, valid = torch.randn(3, 6, 3, 3), batches()[1].valid
    other = torch.where(valid[:, None], target, target.roll(1, 1))
    other[:, :, ::3] = target[:, :, ::3]  # rows the guide is read from
    found = [float(method.distance(features, each, valid, clock().generator).detach()) for each in (target, other)]
    assert found[0] == found[1]
    assert found[0] > 0
    assert not other.equal(target)


def test_masked_features_get_no_gradient_where_they_are_masked():
    method = made(**{name: int(name == "object_masking") for name in ORIGINAL})
    target = torch.zeros(2, 3, 8, 8)
    target[:, 0, :, :4] = 1.0  # background on the left
    target[:, 1, :, 4:] = 1.0
    features = torch.rand(2, 6, 2, 2, requires_grad=True)
    method.distance(features, target, torch.ones(2, 8, 8, dtype=torch.bool), clock().generator).backward()
    assert features.grad[..., 1].eq(0).all()
    assert features.grad[..., 0].ne(0).any()
