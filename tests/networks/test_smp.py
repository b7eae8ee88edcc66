"""Networks of segmentation-models-pytorch behind the segmentor's contract."""

import ast
from pathlib import Path

import pytest
import segmentation_models_pytorch as library
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import semiseg
from semiseg.config.options import NetworkOptions
from semiseg.networks import NETWORKS, build
from semiseg.networks.smp import SmpSegmentor

NAMES = [name for name in NETWORKS if name.startswith("smp:")]
SIZES = [(33, 47), (5, 5), (130, 70), (64, 96)]


def options(name="smp:Unet", encoder="resnet18", weights="none", **changes) -> NetworkOptions:
    return NetworkOptions(name=name, encoder=encoder, weights=str(weights), channels=8, **changes)


def network(name="smp:Unet", encoder="resnet18", **changes) -> SmpSegmentor:
    torch.manual_seed(0)
    return build(options(name, encoder, **changes), 4)


# ---- the contract ----


@pytest.mark.parametrize("name", NAMES)
def test_any_size_comes_back_at_its_own_size(name):
    made = network(name, aux=True).train()
    for size in SIZES:
        output = made(torch.randn(2, 3, *size))
        assert output.logits.shape == output.aux.shape == (2, 4, *size)
        assert output.features.shape[:2] == (2, made.feature_channels)
        assert output.logits.isfinite().all()
    (output.logits.square().mean() + output.aux.square().mean()).backward()
    assert all(each.grad is not None for each in made.decoder.parameters())
    assert made.encoder.encoder.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("mit_b0", "smp:Segformer"),
        ("mit_b0", "smp:Unet"),
        ("tu-convnext_atto", "smp:UPerNet"),
        ("mobilenet_v2", "smp:FPN"),
    ],
)
def test_encoders_of_other_families(encoder, name):
    made = network(name, encoder).train()
    for size in ((33, 47), (5, 5)):
        assert made(torch.randn(2, 3, *size)).logits.shape == (2, 4, *size)


@pytest.mark.parametrize("encoder", ["tu-swin_tiny_patch4_window7_224", "tu-vit_tiny_patch16_224"])
def test_an_encoder_for_one_size_only_is_refused(encoder):
    with pytest.raises(ValueError, match=rf"smp:UPerNet cannot be built on network\.encoder {encoder}.*resnet34"):
        network("smp:UPerNet", encoder)


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_the_library_computes(name):
    """On a size that the library takes, and on the padded image where it does not."""
    made = network(name).eval()
    original = library.create_model(name.removeprefix("smp:"), "resnet18", encoder_weights=None, classes=4).eval()
    original.encoder.load_state_dict(made.encoder.encoder.state_dict())
    original.decoder.load_state_dict(made.decoder.decoder.state_dict())
    original.segmentation_head[0].load_state_dict(made.decoder.classifier.state_dict())
    image = torch.randn(2, 3, 57, 96)
    with torch.no_grad():
        expected = original(F.pad(image, (0, 0, 0, 7), mode="replicate"))
        torch.testing.assert_close(made(image).logits, expected[:, :, :57], atol=1e-4, rtol=1e-4)


def test_the_classifier_reads_the_features():
    made = network("smp:UPerNet").eval()
    output = made(torch.randn(1, 3, 64, 64))
    logits = F.interpolate(made.decoder.classifier(output.features), (64, 64), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, output.logits)


@pytest.mark.parametrize("encoder", ["resnet18", "mit_b0"])
def test_the_pyramid_has_neither_the_image_nor_empty_maps(encoder):
    made = network(encoder=encoder)
    pyramid = made.encode(torch.randn(1, 3, 40, 40))
    assert [each.shape[1] for each in pyramid] == made.encoder.widths
    assert all(width > 3 for width in made.encoder.widths)
    assert pyramid[-1].shape[-2:] == (2, 2)


def test_features_are_cut_as_the_image_is():
    """Stride 4, as with DeepLabv3+: what a feature pixel sees begins inside the image."""
    assert network("smp:FPN")(torch.randn(2, 3, 33, 47)).features.shape[-2:] == (9, 12)


def test_another_size_than_the_images_is_refused():
    made = network()
    pyramid = made.encode(torch.randn(2, 3, 33, 47))
    with pytest.raises(AssertionError, match=r"asked for \(33, 90\).*\(64, 64\)"):
        made.decode(pyramid, (33, 90))


def test_parameter_groups_partition_the_parameters():
    made = network("smp:FPN", aux=True)
    encoder, head = made.encoder_parameters(), made.head_parameters()
    assert {id(each) for each in encoder} == {id(each) for each in made.encoder.parameters()}
    assert {id(each) for each in encoder + head} == {id(each) for each in made.parameters()}
    assert len(encoder) + len(head) == len(list(made.parameters()))
    original = library.FPN("resnet18", encoder_weights=None, classes=4)
    assert sum(each.numel() for each in encoder) == sum(each.numel() for each in original.encoder.parameters())


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("resnet18", "smp:Unet"),
        ("efficientnet-b0", "smp:FPN"),
        ("mit_b0", "smp:Segformer"),
        ("tu-resnet10t", "smp:UPerNet"),
    ],
)
def test_checkpointing_changes_no_gradient(encoder, name):
    gradients = []
    for checkpoint in (False, True):
        made = network(name, encoder, checkpoint=checkpoint).train()
        torch.manual_seed(1)
        made(torch.randn(2, 3, 65, 40)).logits.square().mean().backward()
        gradients.append({key: each.grad for key, each in made.named_parameters() if each.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert [key for key, each in gradients[0].items() if not torch.equal(each, gradients[1][key])] == []


# ---- names ----


def test_the_library_is_imported_when_such_a_network_is_built_and_not_before():
    for file in Path(semiseg.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            assert "segmentation_models_pytorch" not in ast.unparse(node) or isinstance(node, ast.FunctionDef), file


@pytest.mark.parametrize(("wrong", "near"), [("smp:unet", "smp:Unet"), ("smp:Unet++", "smp:Unet"), ("dpd", "dpt")])
def test_an_unknown_network_names_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=rf"network\.name is '.*'; did you mean {near}\? Expected one of: deeplab"):
        options(wrong)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("resnet101s", "tu-resnet101s, resnet101"),
        ("resnet3", "resnet34"),
        ("tu-resnet18x", "tu-resnet18"),
        ("@", "mit"),
    ],
)
def test_an_unknown_encoder_names_its_neighbours(wrong, near):
    with pytest.raises(ValueError, match=rf"'{wrong}', which segmentation-models-pytorch does not have.*{near}"):
        build(options(encoder=wrong), 3)


def test_what_the_library_refuses_is_explained():
    with pytest.raises(ValueError, match=r"smp:UnetPlusPlus cannot be built on network\.encoder mit_b0.*resnet34"):
        build(options("smp:UnetPlusPlus", "mit_b0"), 3)


# ---- weights ----


def shifted(module: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {k: v + torch.rand(v.shape) if v.is_floating_point() else v for k, v in module.state_dict().items()}


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t", "mit_b0"])
def test_an_encoders_file_loads(tmp_path, encoder):
    made = build(options(encoder=encoder), 3).encoder.encoder
    state = shifted(made.model if encoder.startswith("tu-") else made)
    save_file(state, tmp_path / "encoder.safetensors")
    loaded = build(options(encoder=encoder, weights=tmp_path / "encoder.safetensors"), 3).encoder.encoder
    found = (loaded.model if encoder.startswith("tu-") else loaded).state_dict()
    assert all(torch.equal(each, state[key]) for key, each in found.items())


@pytest.mark.parametrize("encoder", ["resnet34", "tu-resnet18"])
def test_a_wrong_file_is_named(tmp_path, encoder):
    save_file({"head.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors (does not fit|lacks)"):
        build(options(encoder=encoder, weights=tmp_path / "other.safetensors"), 3)


@pytest.mark.parametrize(
    ("encoder", "repo"), [("resnet18", "smp-hub/resnet18.imagenet"), ("tu-resnet18", "timm/resnet18.a1_in1k")]
)
def test_without_the_hub_the_error_names_the_file(monkeypatch, tmp_path, encoder, repo):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=rf"`hf download {repo} model\.safetensors`.*--network\.weights FILE"):
        build(options(encoder=encoder, weights="hub"), 3)


def test_the_hubs_file_is_the_revision_that_the_library_names(monkeypatch, tmp_path):
    state = shifted(build(options(), 3).encoder.encoder)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}')
    asked = []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = build(options(weights="hub"), 3).encoder.encoder.state_dict()
    settings = library.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    files = ("model.safetensors", "config.json")
    assert list(dict.fromkeys(asked)) == [(settings["repo_id"], file, settings["revision"]) for file in files]
    assert all(torch.equal(each, state[key]) for key, each in found.items())
