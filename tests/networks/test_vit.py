"""timm's plain ViTs as encoders: maps, layers, sizes, position embeddings, weights."""

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from support.tiny import vit_segmentor
from torch.nn import functional as F

from semiseg.config.options import NetworkOptions
from semiseg.networks import build, vit
from semiseg.networks.vit import ViTEncoder, build_vit, spread_layers

SMALL = "test_vit"  # 6 blocks, 64 channels, patches of 16 pixels, a grid of 10 x 10
SIZES = [(33, 47), (5, 5), (130, 70)]


def options(encoder=SMALL, weights="none", **changes) -> NetworkOptions:
    return NetworkOptions(name="dpt", encoder=encoder, weights=str(weights), channels=16, **changes)


def meta_vit(*args, **changes) -> ViTEncoder:
    with torch.device("meta"):
        return build_vit(options(*args, **changes))[0]


def timm_state(name=SMALL, seed=0, **changes) -> dict[str, torch.Tensor]:
    """A weight file's content: every tensor of timm's model, classifier included, no two alike."""
    torch.manual_seed(seed)
    state = timm.create_model(name, **changes).state_dict()
    return {key: each + 0.1 * torch.rand(each.shape) for key, each in state.items()}


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- maps ----


@pytest.mark.parametrize(
    ("name", "millions", "width", "layers"),
    [
        ("vit_small_patch14_dinov2", 22.06, 384, [2, 5, 8, 11]),
        ("vit_large_patch14_dinov2", 304.37, 1024, [4, 11, 17, 23]),
    ],
)
def test_dinov2_has_its_published_size_and_layers(name, millions, width, layers):
    encoder = meta_vit(name)
    assert count(encoder) == pytest.approx(millions * 1e6, abs=5000)
    assert (encoder.layers, encoder.width, encoder.patch) == (layers, width, (14, 14))
    maps = encoder(torch.empty(2, 3, 518, 378, device="meta"))
    assert [each.shape for each in maps] == [(2, width, 37, 27)] * 4


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2", "deit_tiny_distilled_patch16_224", "test_vit4"],
)
def test_other_families_take_any_size(name):
    encoder = meta_vit(name)
    for size in SIZES:
        grid = [max(1, round(side / encoder.patch[0])) for side in size]
        maps = encoder(torch.empty(1, 3, *size, device="meta"))
        assert [list(each.shape) for each in maps] == [[1, encoder.width, *grid]] * 4


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "test_vit4"])
def test_every_parameter_of_an_encoder_is_used(name):
    encoder, _ = build_vit(options(name, layers=(0, 1, 2, 3)))
    sum(each.square().mean() for each in encoder(torch.randn(2, 3, 33, 47))).backward()
    assert [key for key, each in encoder.named_parameters() if each.grad is None] == []


def test_maps_are_the_normed_tokens_of_the_chosen_blocks():
    """The model's parts, called one by one."""
    torch.manual_seed(0)
    encoder, _ = build_vit(options(layers=(0, 2, 3, 5)))
    model, image = encoder.eval().model, torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        tokens = model.patch_embed.proj(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([model.cls_token.expand(2, -1, -1), tokens.reshape(2, 100, 64)], 1) + model.pos_embed
        for number, block in enumerate(model.blocks):
            tokens = block(tokens)
            if number in encoder.layers:
                expected = model.norm(tokens)[:, 1:].transpose(1, 2).reshape(2, 64, 10, 10)
                torch.testing.assert_close(encoder(image)[encoder.layers.index(number)], expected)


def test_layers_are_spread_evenly_but_for_24_blocks():
    chosen = {depth: spread_layers(depth) for depth in (4, 6, 8, 12, 24, 40)}
    assert chosen == {
        **{4: (0, 1, 2, 3), 6: (1, 2, 4, 5), 8: (1, 3, 5, 7), 12: (2, 5, 8, 11)},
        **{24: (4, 11, 17, 23), 40: (9, 19, 29, 39)},
    }
    with pytest.raises(ValueError, match="has 3 blocks; the decoder reads four"):
        spread_layers(3)


def test_blocks_behind_the_deepest_map_are_dropped():
    assert len(meta_vit(layers=(0, 1, 2, 3)).model.blocks) == 4
    assert len(meta_vit().model.blocks) == 6


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"network\.layers are \(2, 5, 8, 11\), but .*test_vit has blocks 0 to 5"):
        build_vit(options(layers=(2, 5, 8, 11)))
    for wrong in ((2, 5, 5, 8), (5, 2, 8, 9), (-1, 2, 3, 4)):
        with pytest.raises(
            ValueError, match=r"expected four blocks counted from 0, from shallow to deep|expected 0 <= layers"
        ):
            options(layers=wrong)


# ---- sizes ----


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((33, 47), (32, 48)), ((5, 5), (16, 16)), ((130, 70), (128, 64)), ((24, 40), (32, 48)), ((23, 39), (16, 32))],
)
def test_images_are_resized_to_the_nearest_whole_patches(size, fitted):
    torch.manual_seed(0)
    encoder, _ = build_vit(options())
    image = torch.randn(1, 3, *size)
    resized = F.interpolate(image, fitted, mode="bilinear", align_corners=True)
    with torch.no_grad():
        for found, expected in zip(encoder.eval()(image), encoder(resized), strict=True):
            assert torch.equal(found, expected)
            assert found.shape[-2:] == (fitted[0] // 16, fitted[1] // 16)


def test_whole_patches_are_not_resampled(monkeypatch):
    encoder, _ = build_vit(options())
    monkeypatch.setattr("semiseg.networks.vit.resize", lambda *_: pytest.fail("resampled"))
    encoder(torch.randn(1, 3, 48, 80))


@pytest.mark.parametrize("size", SIZES)
def test_a_segmentor_answers_at_the_images_size(size):
    network = build(options(aux=True), 5).train()
    output = network(torch.randn(2, 3, *size))
    grid = network.encoder.fitted(torch.empty(1, 3, *size))
    assert output.logits.shape == output.aux.shape == (2, 5, *size)
    assert output.features.shape == (2, 16, *(8 * side // 16 for side in grid))
    assert output.logits.isfinite().all()


def test_position_embeddings_are_resampled_to_the_images_grid():
    """An embedding that is linear over the grid stays so, up to the border's halves of a patch."""
    encoder, _ = build_vit(options())
    model, seen = encoder.model, []
    ramp = torch.linspace(0, 9, 10)
    with torch.no_grad():
        model.pos_embed.zero_()
        model.pos_embed[0, 1:, 0] = ramp.repeat_interleave(10)
        model.patch_embed.proj.weight.zero_()
        model.patch_embed.proj.bias.zero_()
    model.norm_pre.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        encoder(torch.randn(1, 3, 5 * 16, 4 * 16))
    rows = seen[0][0, 1:, 0].view(5, 4)
    assert torch.allclose(rows, rows[:, :1].expand(-1, 4), atol=1e-5)
    torch.testing.assert_close(rows[1:4, 0], torch.tensor([2.5, 4.5, 6.5]), atol=0.05, rtol=0)


# ---- encoders that cannot be had ----


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"])
def test_what_is_no_plain_vit_gets_the_repair(name):
    with pytest.raises(ValueError, match=rf"{name} is no plain ViT.*vit_small_patch14_dinov2.*deeplabv3plus"):
        build(options(name), 3)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "test_vit"])
def test_a_vit_under_the_papers_decoder_gets_the_repair(name):
    with pytest.raises(ValueError, match=rf"{name} gives no pyramid.*plain ViTs go with --network\.name dpt"):
        build(NetworkOptions(encoder=name, weights="none"), 3)


def test_an_unknown_vit_names_its_neighbours():
    with pytest.raises(ValueError, match=r"'vit_small_patch14_dino2'.*nearest names: vit_small_patch14_dinov2"):
        build_vit(options("vit_small_patch14_dino2"))


# ---- weights ----


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_timms_whole_model_loads(tmp_path, name, suffix):
    state = timm_state(name)
    (save_file if suffix == ".safetensors" else torch.save)(state, tmp_path / f"model{suffix}")
    encoder, _ = build_vit(options(name, tmp_path / f"model{suffix}"))
    assert all(torch.equal(each, state[key]) for key, each in encoder.model.state_dict().items())


def test_the_makers_own_names_load(monkeypatch, tmp_path):
    """DINOv2's files with registers have another layout than timm's."""
    registers = {"reg_tokens": 2, "no_embed_class": True, "num_classes": 0, "dynamic_img_size": True}
    monkeypatch.setattr(vit, "_create", lambda name, bands: timm.create_model(name, in_chans=bands, **registers))
    state = timm_state(**registers)
    theirs = {key: each for key, each in state.items() if key not in ("pos_embed", "cls_token", "reg_token")}
    theirs |= {"register_tokens": state["reg_token"], "mask_token": torch.zeros(1, 64)}
    theirs |= {"cls_token": state["cls_token"] - 1}
    theirs |= {"pos_embed": torch.cat([torch.ones(1, 1, 64), state["pos_embed"]], 1)}
    torch.save(theirs, tmp_path / "theirs.pth")
    encoder, _ = build_vit(options(weights=tmp_path / "theirs.pth"))
    found = dict(encoder.model.state_dict())
    torch.testing.assert_close(found, {key: state[key] for key in found})


def test_a_position_embedding_of_another_grid_is_resampled(tmp_path):
    state = timm_state(img_size=64)  # 4 x 4 patches
    state["pos_embed"][:, 1:] = 0.5
    save_file(state, tmp_path / "small.safetensors")
    encoder, _ = build_vit(options(weights=tmp_path / "small.safetensors"))
    found = encoder.model.pos_embed
    assert found.shape == (1, 1 + 10 * 10, 64)
    assert torch.equal(found[:, :1], state["pos_embed"][:, :1])
    torch.testing.assert_close(found[:, 1:], torch.full((1, 100, 64), 0.5))


def test_a_file_of_another_vit_is_refused_with_both_shapes(tmp_path):
    save_file(timm_state("test_vit", embed_dim=32), tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match=r"narrow\.safetensors has .* in another shape.*\(32,.*expected \(64,"):
        build_vit(options(weights=tmp_path / "narrow.safetensors"))


def test_a_file_with_other_patches_is_refused(tmp_path):
    save_file(timm_state("test_vit", patch_size=8), tmp_path / "fine.safetensors")
    with pytest.raises(ValueError, match=r"fine\.safetensors has .*patch_embed\.proj\.weight is \(64, 3, 8, 8\)"):
        build_vit(options(weights=tmp_path / "fine.safetensors"))


def test_a_file_of_a_cnn_is_refused(tmp_path):
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "cnn.safetensors")
    with pytest.raises(ValueError, match=r"cnn\.safetensors lacks \d+ of the encoder's \d+ tensors"):
        build_vit(options(weights=tmp_path / "cnn.safetensors"))


def test_without_the_hub_the_error_names_the_file_and_both_repairs(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="could not be downloaded") as caught:
        meta_vit("vit_small_patch14_dinov2", "hub")
    message = str(caught.value)
    assert "`hf download timm/vit_small_patch14_dinov2.lvd142m model.safetensors`" in message
    assert "--network.weights FILE" in message
    assert "--network.weights none" in message


def test_the_hubs_file_is_loaded(monkeypatch, tmp_path):
    state = timm_state()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors"))
    encoder, _ = build_vit(options(weights="hub"))
    assert torch.equal(encoder.model.pos_embed, state["pos_embed"])


# ---- the tests' own ----


def test_the_tiny_vit_is_confident_and_doubtful_about_different_images():
    network = vit_segmentor(dropout=0.2, aux=True)
    assert isinstance(network.encoder, ViTEncoder)
    assert count(network) < 100_000
    with torch.no_grad():
        confidence, label = network.eval()(torch.randn(3, 3, 9, 11)).logits.softmax(1).max(1)
    assert confidence.min() < 0.4
    assert confidence.max() > 0.6
    assert label.unique().tolist() == [0, 1, 2]
    for size in SIZES:
        assert network(torch.randn(1, 3, *size)).logits.shape == (1, 3, *size)
