"""First weights for RGB in networks of other bands: the sum over the bands stays the sum over RGB."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from semiseg.config.options import AugmentOptions, NetworkOptions
from semiseg.networks import build
from semiseg.networks.encoders import spread_stem
from semiseg.parts.augment import strong_view


@pytest.mark.parametrize("bands", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_an_image_of_equal_bands_gives_what_grey_gives_in_rgb(tmp_path, encoder, bands):
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(encoder, pretrained=False).state_dict(), file)
    options = {"encoder": encoder, "output_stride": 32, "channels": 8, "weights": str(file)}
    rgb, other = (build(NetworkOptions(bands=n, **options), 2).eval() for n in (3, bands))
    grey = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected, found = rgb.encoder(grey.repeat(1, 3, 1, 1)), other.encoder(grey.repeat(1, bands, 1, 1))
    for one, another in zip(expected, found, strict=True):
        torch.testing.assert_close(another, one, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("bands", [1, 4, 7])
def test_the_mean_activation_is_kept(bands):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 3, 7, 7, generator=generator) + 0.1
    spread = spread_stem({"conv1.weight": weight}, {"conv1.weight": torch.empty(64, bands, 7, 7)})["conv1.weight"]
    images = [torch.rand(4, n, 32, 32, generator=generator) for n in (3, bands)]
    means = [torch.nn.functional.conv2d(x, w).mean() for x, w in zip(images, (weight, spread), strict=True)]
    torch.testing.assert_close(means[1], means[0], rtol=0.02, atol=0)
    torch.testing.assert_close(spread.sum(1), weight.sum(1))


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("smp:Unet", "resnet18"), ("smp:Unet", "tu-test_resnet"), ("dpt", "test_vit2"), ("fpn", "test_resnet")],
)
def test_every_kind_of_network_takes_bands(name, encoder):
    options = NetworkOptions(name=name, encoder=encoder, output_stride=32, channels=8, weights="none", bands=5)
    network = build(options, 3).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 5, 64, 64)).logits.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_strong_views_of_bands_treat_them_alike_and_keep_their_means(bands):
    options = AugmentOptions(jitter_probability=1, brightness=0, contrast=0.5, blur_probability=0, gray_probability=1)
    image = 0.2 * torch.randn(3, bands, 32, 32, generator=torch.Generator().manual_seed(0))
    view = strong_view(image, options, torch.Generator().manual_seed(1))
    order = torch.randperm(bands, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(strong_view(image[:, order], options, torch.Generator().manual_seed(1)), view[:, order])
    torch.testing.assert_close(view.mean((2, 3)), image.mean((2, 3)), atol=1e-4, rtol=0)
    assert not torch.allclose(view, image)
