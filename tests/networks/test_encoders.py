"""timm's backbones as encoders: pyramids, dilation, weights."""

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from semiseg.config.options import NetworkOptions
from semiseg.networks.encoders import build_encoder

FAMILIES = ["resnet18", "resnet50", "convnext_atto", "mobilenetv3_small_100", "efficientnet_b0"]


def options(encoder="resnet18", weights="none", **changes) -> NetworkOptions:
    return NetworkOptions(encoder=encoder, weights=str(weights), **{"output_stride": 16, **changes})


def meta_encoder(*args, **changes):
    with torch.device("meta"):
        return build_encoder(options(*args, **changes))


def timm_state(name="resnet18", seed=0) -> dict[str, torch.Tensor]:
    """A weight file's content: every tensor of timm's classification model, no two alike."""
    torch.manual_seed(seed)
    state = timm.create_model(name).state_dict()
    return {
        key: each + 0.1 * torch.rand(each.shape) if each.is_floating_point() else each for key, each in state.items()
    }


# ---- pyramids ----


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", FAMILIES)
def test_families_give_a_pyramid_from_stride_4_to_the_stride_asked(name, stride):
    encoder, widths = meta_encoder(name, output_stride=stride)
    maps = encoder(torch.empty(1, 3, 129, 173, device="meta"))
    assert [each.shape[1] for each in maps] == widths
    assert len(maps) == 4
    for each, reduction in ((maps[0], 4), (maps[-1], stride)):
        assert abs(each.shape[2] - 129 / reduction) < 1  # some families round up, others down
        assert abs(each.shape[3] - 173 / reduction) < 1


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_of_an_encoder_is_used(name):
    encoder, _ = build_encoder(options(name))
    maps = encoder.train()(torch.randn(2, 3, 65, 65))
    assert all(each.isfinite().all() for each in maps)
    maps[-1].square().mean().backward()
    assert [key for key, each in encoder.named_parameters() if each.grad is None] == []


def test_the_deepest_map_is_what_timms_model_computes():
    encoder, _ = build_encoder(options(output_stride=32))
    model = timm.create_model("resnet18")
    model.load_state_dict(encoder.state_dict(), strict=False)
    image = torch.randn(2, 3, 97, 65)
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(image)[-1], model.eval().forward_features(image))


@pytest.mark.parametrize("name", ["resnet18", "resnet101s"])
def test_state_dict_keys_are_timms_without_the_classifier(name):
    encoder, _ = meta_encoder(name, output_stride=8)
    with torch.device("meta"):
        expected = {key: each.shape for key, each in timm.create_model(name).state_dict().items()}
    assert {key: each.shape for key, each in encoder.state_dict().items()} == {
        key: shape for key, shape in expected.items() if not key.startswith("fc.")
    }


# ---- the paper's ResNet ----


def dilations(encoder, layer):
    return [block.conv2.dilation[0] for block in encoder.get_submodule(layer)]


def test_dilations_of_the_papers_encoder():
    encoder, _ = meta_encoder("resnet101s", output_stride=8)
    assert dilations(encoder, "layer3") == [1] + [2] * 22
    assert dilations(encoder, "layer4") == [4, 8, 16]
    assert [block.conv2.padding for block in encoder.layer4] == [(4, 4), (8, 8), (16, 16)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"output_stride": 8, "multi_grid": False}, [2, 4, 4]),
        ({"output_stride": 16, "multi_grid": True}, [1, 2, 2]),
        ({"output_stride": 32, "multi_grid": True}, [1, 1, 1]),
    ],
)
def test_multi_grid_belongs_to_output_stride_8(changes, expected):
    encoder, _ = meta_encoder("resnet50", **changes)
    assert dilations(encoder, "layer4") == expected


def test_multi_grid_leaves_blocks_of_two_3x3_convolutions_alone():
    grid, _ = meta_encoder("resnet18", output_stride=8, multi_grid=True)
    plain, _ = meta_encoder("resnet18", output_stride=8, multi_grid=False)
    assert dilations(grid, "layer4") == dilations(plain, "layer4")


@pytest.mark.parametrize(("name", "side"), [("resnet101s", 126), ("resnet50s.gluon_in1k", 126), ("resnet101", 125)])
def test_only_the_deep_stem_rounds_up(name, side):
    encoder, _ = meta_encoder(name, output_stride=32)
    assert encoder(torch.empty(1, 3, 500, 500, device="meta"))[0].shape[-1] == side


# ---- encoders that cannot be had ----


def test_an_unknown_encoder_names_its_neighbours():
    with pytest.raises(ValueError, match=r"network\.encoder is 'resnet101x'.*nearest names:.*resnet101"):
        build_encoder(options("resnet101x"))


def test_an_encoder_like_nothing_gets_examples():
    with pytest.raises(ValueError, match=r"'@@@@'.*nearest names: resnet101s, resnet50, resnet18"):
        build_encoder(options("@@@@"))


def test_an_unknown_tag_names_its_neighbours():
    with pytest.raises(ValueError, match=r"'resnet18\.a9_in1k'.*nearest names:.*resnet18\.a1_in1k"):
        build_encoder(options("resnet18.a9_in1k"))


@pytest.mark.parametrize("name", ["fastvit_t8", "hrnet_w18", "swin_tiny_patch4_window7_224"])
def test_an_encoder_that_refuses_dilation_gets_the_repair(name):
    with pytest.raises(ValueError, match=rf"{name} gives no pyramid.*stride 8.*ResNets.*--network\.output_stride 32"):
        build_encoder(options(name, output_stride=8))


@pytest.mark.parametrize("name", ["hrnet_w18", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_an_encoder_that_takes_only_some_sizes_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} gives no pyramid.*images of any size.*ResNets"):
        build_encoder(options(name, output_stride=32))


# ---- weights from a file ----


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_100"])
def test_a_safetensors_file_of_timms_whole_model_loads(tmp_path, name):
    # ConvNeXt's feature extractor names its stages differently from the file; what it computes must be the same.
    state = timm_state(name)
    save_file(state, tmp_path / "model.safetensors")
    encoder, _ = build_encoder(options(name, tmp_path / "model.safetensors", output_stride=32))
    model = timm.create_model(name)
    model.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().forward_intermediates(image, intermediates_only=True)[-4:]
        for actual, wanted in zip(encoder.eval()(image), expected, strict=True):
            torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_torch_file_loads_bare_or_from_a_parallel_trainers_checkpoint(tmp_path, suffix):
    state = timm_state()
    torch.save(state, tmp_path / f"bare{suffix}")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / f"full{suffix}")
    for stem in ("bare", "full"):
        encoder, _ = build_encoder(options(weights=tmp_path / f"{stem}{suffix}"))
        assert all(torch.equal(each, state[key]) for key, each in encoder.state_dict().items())


def test_weights_differ_from_the_random_start_and_none_is_random():
    torch.manual_seed(0)
    first, _ = build_encoder(options())
    second, _ = build_encoder(options())
    assert not torch.equal(first.conv1.weight, second.conv1.weight)


def test_a_file_from_before_batch_counters_loads(tmp_path):
    state = {key: each for key, each in timm_state().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    encoder, _ = build_encoder(options(weights=tmp_path / "old.pth"))
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_one_missing_tensor_is_named(tmp_path):
    state = timm_state()
    del state["layer3.1.bn2.running_var"]
    save_file(state, tmp_path / "holes.safetensors")
    with pytest.raises(
        ValueError, match=r"holes\.safetensors lacks 1 of the encoder's 100 tensors: layer3\.1\.bn2\.run"
    ):
        build_encoder(options(weights=tmp_path / "holes.safetensors"))


def test_a_file_of_another_network_says_how_many_are_missing(tmp_path):
    save_file(timm_state("mobilenetv3_small_100"), tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other\.safetensors lacks 9\d of .*100 tensors: .*, \.\.\..*--network\.encoder"
    ):
        build_encoder(options(weights=tmp_path / "other.safetensors"))


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path):
    state = timm_state()
    state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    save_file(state, tmp_path / "wide.safetensors")
    expected = (
        r"wide\.safetensors has 1 of 100 .*layer1\.0\.conv1\.weight is \(64, 64, 1, 1\), expected \(64, 64, 3, 3\)"
    )
    with pytest.raises(ValueError, match=expected):
        build_encoder(options(weights=tmp_path / "wide.safetensors"))


def test_a_missing_file_is_named_with_the_choices(tmp_path):
    with pytest.raises(
        ValueError, match=r"no file .*nowhere\.pth; expected `hub`, `package`, `none`, or a \.safetensors"
    ):
        build_encoder(options(weights=tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
def test_an_unreadable_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not tensors at all")
    with pytest.raises(ValueError, match=rf"{name} is not a readable file of tensors.*Expected \.safetensors"):
        build_encoder(options(weights=tmp_path / name))


class Surprise:
    """Something that only unpickling code could restore."""


def test_a_file_that_needs_unpickling_is_refused(tmp_path):
    torch.save({**timm_state(), "surprise": Surprise()}, tmp_path / "pickle.pth")
    with pytest.raises(ValueError, match=r"pickle\.pth is not a readable file of tensors.*unpickling"):
        build_encoder(options(weights=tmp_path / "pickle.pth"))


# ---- weights from the hub ----


def test_without_the_hub_the_error_names_the_file_and_both_repairs(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="could not be downloaded") as caught:
        meta_encoder("resnet101s", "hub", output_stride=8)
    message = str(caught.value)
    assert "`hf download timm/resnet101s.gluon_in1k model.safetensors`" in message
    assert "--network.weights FILE" in message
    assert "--network.weights none" in message


def test_the_hubs_file_is_loaded_whole(monkeypatch, tmp_path):
    state = timm_state()
    save_file(state, tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *args, **_: asked.append(args) or str(tmp_path / "model.safetensors")
    )
    encoder, _ = build_encoder(options(weights="hub"))
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    assert all(torch.equal(each, state[key]) for key, each in encoder.state_dict().items())


def test_an_encoder_the_hub_does_not_have_says_so():
    with pytest.raises(ValueError, match=r"no weights on the hub.*mobilenetv3_large_075.*--network\.weights none"):
        build_encoder(options("mobilenetv3_large_075", "hub"))
