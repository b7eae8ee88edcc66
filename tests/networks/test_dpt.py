"""The decoder for plain ViTs against a twin of plain formulas, and its published sizes."""

import pytest
import torch
from support.shapes import stretch
from torch import nn

from semiseg.config.options import NetworkOptions
from semiseg.networks import build
from semiseg.networks.dpt import DPT, pyramid_widths

PUBLISHED = {"small": (64, 24.8), "base": (128, 97.5)}
"""ViT -> width, and millions of parameters of encoder and decoder as the makers count them."""


def decoder(seed=0, **changes) -> DPT:
    torch.manual_seed(seed)
    return DPT(**{"encoder_width": 16, "num_classes": 3, "channels": 8, **changes}).eval()


def maps(height=3, width=4, inputs=16, seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, inputs, height, width, generator=generator) for _ in range(4)]


# ---- the twin ----


def convolved(image, weight, bias=None, stride=1):
    """A 3x3 or 1x1 convolution with zeros around, one tap after the other."""
    reach = weight.shape[-1] // 2
    batch, _, height, width = image.shape
    framed = image.new_zeros(batch, image.shape[1], height + 2 * reach, width + 2 * reach)
    framed[:, :, reach : reach + height, reach : reach + width] = image
    out = 0 if bias is None else bias[:, None, None]
    for row in range(2 * reach + 1):
        for column in range(2 * reach + 1):
            window = framed[:, :, row : row + height, column : column + width][:, :, ::stride, ::stride]
            out = out + torch.einsum("bihw,oi->bohw", window, weight[:, :, row, column])
    return out


def enlarged(image, weight, bias):
    """Every pixel becomes a square of its own: a transposed convolution whose stride is its kernel."""
    factor = weight.shape[-1]
    batch, _, height, width = image.shape
    out = image.new_zeros(batch, weight.shape[1], factor * height, factor * width)
    for row in range(height):
        for column in range(width):
            square = torch.einsum("bi,iorc->borc", image[:, :, row, column], weight) + bias[:, None, None]
            out[:, :, factor * row : factor * (row + 1), factor * column : factor * (column + 1)] = square
    return out


class Twin:
    """DPT from a state dict by the formulas of its description."""

    def __init__(self, made: DPT) -> None:
        self.tensors = {name: each.double() for name, each in made.state_dict().items()}

    def layer(self, name):
        return self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")

    def level(self, number, tokens):
        narrow = convolved(tokens, *self.layer(f"reassemble.{number}.0"))
        if number < 2:
            narrow = enlarged(narrow, *self.layer(f"reassemble.{number}.1"))
        elif number == 3:
            narrow = convolved(narrow, *self.layer(f"reassemble.{number}.1"), stride=2)
        return convolved(narrow, *self.layer(f"reassemble.{number}.2"))

    def residual(self, image, name):
        inner = convolved(image.clamp(min=0), *self.layer(f"{name}.layers.1"))
        return image + convolved(inner.clamp(min=0), *self.layer(f"{name}.layers.3"))

    def __call__(self, tokens):
        levels = [self.level(number, each.double()) for number, each in enumerate(tokens)]
        path = levels[3]
        for number in (3, 2, 1, 0):
            if number < 3:
                path = path + self.residual(levels[number], f"fusions.{number}.own")
            path = self.residual(path, f"fusions.{number}.both")
            finer = levels[number - 1].shape[-2:] if number else [2 * side for side in path.shape[-2:]]
            path = convolved(stretch(path, finer), *self.layer(f"fusions.{number}.project"))
        features = convolved(path, *self.layer("head.0")).clamp(min=0)
        return convolved(features, *self.layer("classifier.1")), features


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (5, 2)])
def test_the_decoder_equals_its_formulas(size):
    made, tokens = decoder(), maps(*size)
    with torch.no_grad():
        logits, features = made(tokens)
    expected, expected_features = Twin(made)(tokens)
    assert features.shape == (2, 8, 8 * size[0], 8 * size[1])
    torch.testing.assert_close(features.double(), expected_features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.double(), expected, atol=1e-5, rtol=1e-5)


# ---- sizes ----


@pytest.mark.parametrize("size", PUBLISHED)
def test_with_its_encoder_it_has_the_published_number_of_parameters(size):
    channels, millions = PUBLISHED[size]
    with torch.device("meta"):
        options = NetworkOptions(
            name="dpt", encoder=f"vit_{size}_patch14_dinov2", channels=channels, weights="none", dropout=0
        )
        network = build(options, 21)
    # The makers also count a residual unit of the coarsest level which nothing ever calls.
    idle = 2 * (9 * channels**2 + channels)
    found = sum(parameter.numel() for parameter in network.parameters()) + idle
    assert found == pytest.approx(millions * 1e6, abs=0.05e6)


def test_the_pyramids_widths_are_those_published():
    widths = {width: pyramid_widths(width) for width in (384, 768, 1024)}
    assert widths == {384: (48, 96, 192, 384), 768: (96, 192, 384, 768), 1024: (256, 512, 1024, 1024)}


# ---- what its users rely on ----


def test_every_parameter_learns_and_every_map_is_read():
    made, tokens = decoder().train(), [each.requires_grad_() for each in maps()]
    made(tokens)[0].square().mean().backward()
    assert [name for name, each in made.named_parameters() if each.grad is None or not each.grad.any()] == []
    assert all(each.grad.any() for each in tokens)


def test_features_are_not_negative_so_cosines_lie_between_0_and_1():
    assert decoder()(maps())[1].min() >= 0


def test_dropout_drops_channels_before_the_classifier_only():
    made = decoder(dropout=0.5).train()
    first, second = made(maps()), made(maps())
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])
    assert [layer.p for layer in made.modules() if isinstance(layer, nn.Dropout2d)] == [0.5]


def test_one_image_may_be_a_batch():
    logits, _ = decoder().train()([each[:1] for each in maps()])
    assert logits.shape == (1, 3, 24, 32)
