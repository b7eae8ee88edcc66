"""timm's backbones as encoders: a pyramid of features from stride 4 on, dilated to the stride wanted.

State-dict keys equal timm's feature extractors'; for ResNets, EfficientNets and MobileNets they are the keys of
the classification model without its head.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semiseg.config.options import NetworkOptions, require
from semiseg.networks.packaged import as_timm, packaged_file

PAPER_STEMS = ("resnet50s", "resnet101s", "resnet152s")
"""ResNets with the paper's deep stem; their max-pool rounds up, as U2PL's does.

That matters where the pool's input is even: for image sides of 4n and 4n - 1."""

MULTI_GRID = (4, 8, 16)
"""Dilations of the last stage's blocks at output stride 8, as in U2PL: the grid (2, 2, 4) times the stage's 2, 4, 4."""

PROBE_SIZE = (129, 173)
"""Odd on both sides, so that an encoder which needs multiples of 32 is refused at once and not by some image later."""

_FAMILIES = (
    "ResNets, ResNeXts, RegNets, ConvNeXts, EfficientNets and MobileNets take every output stride; plain ViTs go with "
    "--network.name dpt"
)


def build_encoder(options: NetworkOptions) -> tuple[nn.Module, list[int]]:
    """The encoder and the widths of its maps, shallow (stride 4) to deep (`output_stride`).

    Raises ValueError if timm has no such model, if the model cannot give that pyramid, or if its weights cannot be had.
    """
    name = options.encoder
    require_known(name)
    indices, widths = _pyramid(name, options.output_stride, options.bands)
    encoder = _create(name, options.output_stride, out_indices=indices, in_chans=options.bands)
    cfg: dict[str, Any] = encoder.pretrained_cfg  # pyright: ignore[reportAssignmentType]
    if cfg["architecture"] in PAPER_STEMS:
        pool: Any = encoder.get_submodule("maxpool")
        pool.ceil_mode = True
    if options.multi_grid and options.output_stride == 8:
        _set_multi_grid(encoder)
    if options.weights != "none":
        load_first_weights(encoder, options, name, cfg)
    return encoder, widths


def load_first_weights(encoder: nn.Module, options: NetworkOptions, name: str, cfg: Mapping[str, Any]) -> None:
    """Load the whole encoder, timm's model `name` with this pretrained_cfg, from where `options.weights` says.

    Raises ValueError if the weights cannot be had, or lack or misshape any of the encoder's tensors.
    """
    path = weights_file(options, name, cfg)
    state = read_tensors(path)
    if options.weights == "package":
        state = as_timm(state)
    load_tensors(encoder, {_wrapped_key(encoder, key): value for key, value in state.items()}, path)


def weights_file(options: NetworkOptions, name: str, cfg: Mapping[str, Any]) -> Path:
    """Where the first weights of timm's model `name` with this pretrained_cfg are: a package's file, the hub's, or the
    user's.

    Raises ValueError where no package has them, or the hub has none or cannot be reached.
    """
    if options.weights == "package":
        return packaged_file(cfg["architecture"])
    return _download(name, cfg) if options.weights == "hub" else Path(options.weights).expanduser()


def load_tensors(encoder: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load the whole encoder in place from `state`, read from `path`; what else it holds is ignored.

    Raises ValueError that names tensors of the encoder which are missing or have another shape.
    """
    # Counters of batches seen, unused at a fixed BatchNorm momentum, are absent from files older than PyTorch 0.4.1.
    expected = {key: value for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in state]
    require(
        not missing,
        f"{path} lacks {len(missing)} of the encoder's {len(expected)} tensors: {', '.join(missing[:3])}"
        f"{', ...' if len(missing) > 3 else ''}. The file holds {len(state)} tensors of another network or with other "
        "names; set --network.encoder to the file's timm model, or --network.weights to `hub` or `none`",
    )
    state = spread_stem(state, expected)
    wrong = [key for key, value in expected.items() if state[key].shape != value.shape]
    details = [f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}" for key in wrong[:3]]
    require(
        not wrong,
        f"{path} has {len(wrong)} of {len(expected)} tensors in another shape than the encoder: {'; '.join(details)}. "
        "Set --network.encoder to the timm model the file was made for",
    )
    encoder.load_state_dict(state, strict=False)


def spread_stem(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the convolution that sees the image, made for RGB, for the bands that `expected` has.

    Each band gets the mean over red, green and blue times 3 / N: the sum over the bands, which is the answer to an
    image of N equal bands, stays the sum over RGB.
    """
    spread = dict(state)
    for key, value in expected.items():
        weight = state.get(key)
        if weight is None or weight.ndim != 4 or value.shape[1] == weight.shape[1] or weight.shape[1] != 3:
            continue
        bands = value.shape[1]
        if value.shape == (weight.shape[0], bands, *weight.shape[2:]):
            spread[key] = (weight.float().sum(1, keepdim=True) / bands).to(weight.dtype).repeat(1, bands, 1, 1)
    return spread


def require_known(name: str) -> None:
    """Raises ValueError with the nearest names where timm has no model `name`, with or without a tag."""
    import timm

    tagged = "." in name  # architecture.tag names one of several trainings, such as resnet50.a1_in1k
    known = timm.list_pretrained() if tagged else timm.list_models()
    if name in known or (timm.is_model(name) and not tagged):  # is_model knows old names too
        return
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or ["resnet101s", "resnet50", "resnet18"]
    raise ValueError(
        f"network.encoder is {name!r}, which timm {timm.__version__} does not have; nearest names: {', '.join(near)}"
    )


def _create(name: str, stride: int, **options: Any) -> nn.Module:
    import timm

    # Models without dilation have no such argument, and every other one gives 32 without it.
    dilation = {} if stride == 32 else {"output_stride": stride}
    return timm.create_model(name, features_only=True, **dilation, **options)


def _pyramid(name: str, stride: int, bands: int) -> tuple[list[int], list[int]]:
    """Indices and widths of timm's feature maps from stride 4 on, tried out without memory or arithmetic."""
    try:
        with torch.device("meta"):
            encoder = _create(name, stride, in_chans=bands).eval()
            maps: list[Tensor] = encoder(torch.empty(1, bands, *PROBE_SIZE))
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"network.encoder {name} gives no pyramid of features at output stride {stride} for images of any size "
            f"(timm: {type(error).__name__}: {str(error).strip() or 'no reason given'}). {_FAMILIES}; "
            "some others work with --network.output_stride 32"
        ) from error
    info: Any = encoder.feature_info
    strides, widths = list(info.reduction()), list(info.channels())
    first = max((index for index, value in enumerate(strides) if value == 4), default=len(strides))
    channels_first = all(each.ndim == 4 and each.shape[1] == width for each, width in zip(maps, widths, strict=True))
    require(
        channels_first and len(strides) - first >= 3 and strides[-1] == stride,
        f"network.encoder {name} has feature maps {[tuple(each.shape[1:]) for each in maps]} at strides {strides}; "
        f"expected three or more (channels, height, width) from stride 4 to {stride}. {_FAMILIES}",
    )
    indices: list[int] = list(info.out_indices)[first:]
    return indices, widths[first:]


def _set_multi_grid(encoder: nn.Module) -> None:
    """Dilate the last stage of a ResNet of bottlenecks; blocks of two 3x3 convolutions and other networks stay."""
    for block, dilation in zip(getattr(encoder, "layer4", ()), MULTI_GRID, strict=False):
        conv = getattr(block, "conv2", None)
        if isinstance(conv, nn.Conv2d) and hasattr(block, "conv3"):
            conv.dilation = conv.padding = (dilation, dilation)


def _wrapped_key(encoder: nn.Module, key: str) -> str:
    """The encoder's name of a tensor of timm's model: some feature extractors call `stages.0` `stages_0`."""
    outer, _, rest = key.partition(".")
    inner, _, rest = rest.partition(".")
    flat = f"{outer}_{inner}"
    return f"{flat}.{rest}" if hasattr(encoder, flat) else key


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a .safetensors, .pth or .pt file by name. Raises ValueError if there is none to be read."""
    from timm.models import load_state_dict

    require(
        path.is_file(),
        f"network.weights: there is no file {path}; expected `hub`, `package`, `none`, or a .safetensors, .pth or .pt "
        "file",
    )
    try:
        state = load_state_dict(str(path), use_ema=False, weights_only=True)
        return {key: value for key, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # safetensors, zip and pickle each have their own; all mean the same to the user
        # The first sentence: torch's next ones tell, on several lines, how to load the file without its safeguard.
        reason = re.split(r"\. |\n", str(error), maxsplit=1)[0]
        raise ValueError(
            f"network.weights: {path} is not a readable file of tensors ({type(error).__name__}: {reason}). "
            "Expected .safetensors, or .pth/.pt with a state dict and nothing else that needs unpickling"
        ) from error


def _download(name: str, cfg: Mapping[str, Any]) -> Path:
    """The hub's weight file of a timm model, from the cache if it is there."""
    repo = cfg.get("hf_hub_id")
    require(
        bool(repo),
        f"timm has no weights on the hub for network.encoder {name}; "
        "give a file with --network.weights FILE, or start at random with --network.weights none",
    )
    return fetch(name, str(repo), cfg.get("hf_hub_filename") or "model.safetensors")


def fetch(name: str, repo: str, file: str, revision: str | None = None) -> Path:
    """A file of the hub, from the cache if it is there: the first weights of encoder `name`.

    Raises ValueError that says how to get it onto a machine without a connection.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # offline, refused, full disk...: the repair is the same for all
        raise ValueError(
            f"the weights of network.encoder {name} could not be downloaded ({type(error).__name__}). "
            f"Fetch {file} of {repo} from the Hugging Face hub on a connected machine (`hf download {repo} {file}`), "
            "put it anywhere on this one and pass --network.weights FILE; "
            "or start from random weights with --network.weights none"
        ) from error
