"""CCT's perturbations against loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semiseg.methods.details import cct_perturbations as perturbations
from semiseg.parts import channel_dropout
from semiseg.runtime.distributed import own_rows

BATCH, CHANNELS, HEIGHT, WIDTH = 3, 5, 6, 7


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, generator=seeded(seed))


def guides(seed: int = 0) -> Tensor:
    """Three classes of which image 0 shows one object pixel and image 1 none."""
    guide = torch.randint(0, 3, (BATCH, HEIGHT, WIDTH), generator=seeded(seed))
    guide[0] = 0
    guide[0, 2, 3] = 1
    guide[1] = 0
    return guide


# ---- factors ----


def test_channel_dropout_takes_whole_channels_and_keeps_the_mean():
    draws = torch.rand(BATCH, CHANNELS, generator=seeded(1))
    expected = [[2.0 if draws[b, x] >= 0.5 else 0.0 for x in range(CHANNELS)] for b in range(BATCH)]
    found = perturbations.channel_dropout(maps(), seeded(1))
    assert found.shape == (BATCH, CHANNELS, 1, 1)
    assert found[:, :, 0, 0].tolist() == expected
    many = perturbations.channel_dropout(torch.empty(50, 200, 1, 1), seeded())
    assert float(many.mean()) == pytest.approx(1.0, abs=0.05)


def test_feature_drop_takes_the_most_active_places():
    features = maps().abs()
    share = 0.7 + 0.2 * float(torch.rand((), generator=seeded(2)))
    found = perturbations.feature_drop(features, seeded(2))
    assert found.shape == (BATCH, 1, HEIGHT, WIDTH)
    for b in range(BATCH):
        activation = features[b].double().numpy().sum(0) / CHANNELS
        for y, x in np.ndindex(HEIGHT, WIDTH):
            assert found[b, 0, y, x] == (0.0 if activation[y, x] >= share * activation.max() else 1.0)
    assert (found == 0).flatten(1).any(1).all()


def test_feature_noise_is_a_share_of_the_features_and_the_same_for_all_images():
    found = perturbations.feature_noise(maps(), seeded())
    assert found.shape == (1, CHANNELS, HEIGHT, WIDTH)
    assert found.min() >= 0.7
    assert found.max() <= 1.3
    assert float(found.std()) == pytest.approx(0.6 / math.sqrt(12), rel=0.1)


def test_masks_part_the_objects_from_their_context():
    guide = guides()
    objects, context = perturbations.context_masking(guide), perturbations.object_masking(guide)
    for b, y, x in np.ndindex(*guide.shape):
        assert (objects[b, 0, y, x], context[b, 0, y, x]) == ((1, 0) if guide[b, y, x] > 0 else (0, 1))


@pytest.mark.parametrize("seed", range(5))
def test_guided_cutout_takes_a_part_of_every_bounding_box(seed):
    guide, draws = guides(seed), torch.rand(BATCH, 4, 2, generator=seeded(seed))
    guide[2, :, :2] = 0  # boxes need not touch the border
    expected = np.ones((BATCH, 1, HEIGHT, WIDTH))
    for b in range(BATCH):
        for number in (1, 2, 3):  # the third is nowhere
            rows, columns = np.nonzero(guide[b].numpy() == number)
            if len(rows) == 0:
                continue
            place = []
            for axis, found in enumerate((rows, columns)):
                extent = found.max() - found.min() + 1
                erased = math.ceil(0.4 * extent)
                start = found.min() + int(float(draws[b, number, axis]) * (extent - erased + 1))
                place.append(slice(start, start + erased))
            expected[b, 0, place[0], place[1]] = 0
    found = perturbations.guided_cutout(guide, 4, seeded(seed))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert [int((image == 0).sum()) for image in found[:2]] == [1, 0]


def test_every_process_takes_its_images_of_the_whole_batchs_draws(monkeypatch):
    features, guide = torch.cat([maps(), maps(1)]), torch.cat([guides(), guides(1)])
    made = {
        "dropout": lambda f, _: perturbations.channel_dropout(f, seeded()),
        "cutout": lambda _, g: perturbations.guided_cutout(g, 3, seeded()),
    }
    whole = {name: make(features, guide) for name, make in made.items()}
    for module in (perturbations, channel_dropout):
        monkeypatch.setattr(module, "world_size", lambda: 2)
        monkeypatch.setattr(module, "own_rows", lambda tensor: own_rows(tensor)[len(tensor) // 2 :])
    for name, make in made.items():
        assert make(features[BATCH:], guide[BATCH:]).equal(whole[name][BATCH:])


# ---- VAT ----


class Decoder(nn.Module):
    """Not linear, and its prediction depends on more than one place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.to(self.layers[0].weight.dtype))


def divergence(decoder: nn.Module, features: Tensor, shift: Tensor) -> Tensor:
    """KL(p || p') of each image, summed over places. (B,)"""
    with torch.no_grad():
        p, q = decoder(features).softmax(1), decoder(features + shift).softmax(1)
    return (p * (p.log() - q.log())).sum((1, 2, 3))


def test_the_adversarial_shift_is_the_gradient_by_differences():
    decoder, features = Decoder(), maps()
    found = perturbations.adversarial_shift(decoder, features, 2.0, seeded(3))
    start = 2 * torch.rand(1, *features.shape[1:], generator=seeded(3)).double() - 1
    start = start / start.norm()
    decoder, features = decoder.double(), features.double()
    for b in range(BATCH):
        image = features[b : b + 1]
        at = 0.01 * image.norm() * start
        gradient = torch.zeros_like(image)
        for place in np.ndindex(*image.shape):
            nudge = torch.zeros_like(image)
            nudge[place] = 1e-4
            gradient[place] = divergence(decoder, image, at + nudge) - divergence(decoder, image, at - nudge)
        expected = 2.0 * gradient[0] / gradient.norm()
        torch.testing.assert_close(found[b].double(), expected, atol=2e-4, rtol=1e-3)


def test_it_changes_the_prediction_more_than_random_shifts_of_its_length():
    decoder, features = Decoder(), maps()
    found = perturbations.adversarial_shift(decoder, features, 0.5, seeded())
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((BATCH,), 0.5))
    for seed in range(20):
        other = maps(seed + 10)
        other = 0.5 * other / other.flatten(1).norm(dim=1)[:, None, None, None]
        assert (divergence(decoder, features, found) > 2 * divergence(decoder, features, other)).all()


def test_it_leaves_no_gradient_behind_and_is_0_where_nothing_depends_on_the_features():
    decoder, features = Decoder(), maps().requires_grad_()
    assert not perturbations.adversarial_shift(decoder, features, 2.0, seeded()).requires_grad
    assert features.grad is None
    assert all(parameter.grad is None for parameter in decoder.parameters())
    with torch.no_grad():
        decoder.layers[2].weight.zero_()
    assert perturbations.adversarial_shift(decoder, features, 2.0, seeded()).eq(0).all()
