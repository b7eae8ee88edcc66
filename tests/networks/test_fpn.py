"""The lean decoder against its formulas, one level after the other."""

import pytest
import torch
from support.shapes import stretch
from torch.nn import functional as F

from semiseg.config.options import NetworkOptions
from semiseg.networks import build
from semiseg.networks.fpn import FPN

WIDTHS = (4, 6, 10)


def decoder(seed=0, **changes) -> FPN:
    torch.manual_seed(seed)
    made = FPN(**{"encoder_channels": WIDTHS, "num_classes": 3, "channels": 8, **changes})
    for name, buffer in made.named_buffers():  # statistics of a network that was trained
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return made.eval()


def pyramid(seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((12, 17), (6, 9), (3, 5))
    return [torch.randn(2, width, *size, generator=generator) for width, size in zip(WIDTHS, sizes, strict=True)]


def twin(made: FPN, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """P_l = 1x1(C_l) + up(P_(l+1)); F = sum over l of up(relu(norm(3x3(P_l)))); logits = 1x1(F)."""
    tensors = {name: each.double() for name, each in made.state_dict().items()}
    size = maps[0].shape[-2:]

    def merged(level: int) -> torch.Tensor:
        weight, bias = tensors[f"laterals.{level}.weight"][:, :, 0, 0], tensors[f"laterals.{level}.bias"]
        own = torch.einsum("bihw,oi->bohw", maps[level].double(), weight) + bias[:, None, None]
        return own if level == len(maps) - 1 else own + stretch(merged(level + 1), own.shape[-2:])

    total = torch.zeros(2, 8, *size, dtype=torch.double)
    for level in range(len(maps)):
        mapped = F.conv2d(merged(level), tensors[f"levels.{level}.0.weight"], padding=1)
        mean, var, scale, shift = (
            tensors[f"levels.{level}.1.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        normed = (mapped - mean) / (var + 1e-5).sqrt() * scale + shift
        total += stretch(normed.clamp(min=0), size)
    weight, bias = tensors["classifier.1.weight"][:, :, 0, 0], tensors["classifier.1.bias"]
    return torch.einsum("bihw,oi->bohw", total, weight) + bias[:, None, None], total


def test_logits_and_features_are_the_formulas():
    made, maps = decoder(), pyramid()
    with torch.no_grad():
        found = made(maps)
    for ours, expected in zip(found, twin(made, maps), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)
    assert found[1].min() >= 0


def test_every_map_matters():
    made, maps = decoder(), pyramid()
    for level in range(len(maps)):
        changed = [each + (number == level) for number, each in enumerate(maps)]
        assert not torch.allclose(made(changed)[0], made(maps)[0])


def test_dropout_is_before_the_classifier_and_leaves_the_features():
    made, maps = decoder(dropout=0.9), pyramid()
    still, features = made(maps)
    made.classifier.train()
    torch.manual_seed(0)
    dropped, same = made(maps)
    assert torch.equal(features, same)
    assert not torch.allclose(still, dropped)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_100", "convnext_atto", "tf_efficientnet_lite0"])
def test_it_goes_with_any_cnn_and_any_size(encoder):
    options = NetworkOptions(name="fpn", encoder=encoder, output_stride=32, channels=16, weights="none", aux=True)
    made = build(options, 5)
    output = made(torch.randn(2, 3, 65, 97))
    assert output.logits.shape == (2, 5, 65, 97)
    assert output.aux.shape == (2, 5, 65, 97)
    assert output.features.shape[1] == made.feature_channels == 16
    output.logits.square().mean().backward()
    assert all(each.grad is not None for each in made.decoder.parameters())


def test_with_64_channels_it_is_small():
    made = FPN((24, 40, 112, 320), 11, channels=64)
    assert (
        sum(each.numel() for each in made.parameters())
        == 64 * (24 + 40 + 112 + 320) + 4 * (64 + 9 * 64 * 64 + 128) + 65 * 11
    )
