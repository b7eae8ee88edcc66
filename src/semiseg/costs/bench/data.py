"""Weak views per second and core: ours, the way of PIL and torchvision, and the decoding alone."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from semiseg.config.options import AugmentOptions
from semiseg.costs.bench.pictures import write_pictures
from semiseg.costs.bench.table import Table
from semiseg.data.dataset import ImageSet
from semiseg.data.files import FileSet
from semiseg.data.masks import MaskReader
from semiseg.data.prepared import Prepared
from semiseg.data.sets.scenes import CLASSES
from semiseg.parts.augment import MEAN, STD, normalise, weak_view
from semiseg.runtime.timing import Call, median_seconds
from semiseg.types import IGNORE

PICTURES = 24
KINDS = {  # photographs (H, W), the crop, as the papers have them
    "VOC, 375x500, crop 513": ((375, 500), (513, 513)),
    "Cityscapes, 1024x2048, crop 769": ((1024, 2048), (769, 769)),
}
TARGET = 1.5


def bench_data(repeats: int = 5) -> list[Table]:
    """One table per kind of photographs; one thread each."""
    return [_kind(title, *sizes, repeats) for title, sizes in KINDS.items()]


def _kind(title: str, size: tuple[int, int], crop: tuple[int, int], repeats: int) -> Table:
    options = AugmentOptions(crop_height=crop[0], crop_width=crop[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        write_pictures(folder, PICTURES, 0, size)
        images, masks = (sorted((folder / kind).iterdir()) for kind in ("images", "masks"))
        files = FileSet("labeled", [path.stem for path in images], images, masks, MaskReader(CLASSES))
        cached = Prepared(files, cache=True)
        pairs = list(zip(images, masks, strict=True))
        random.seed(0)
        calls: dict[str, Call] = {
            "PIL and torchvision": lambda: [usual_view(*pair, options) for pair in pairs],
            "decoding alone, PIL": lambda: [np.asarray(Image.open(path).convert("RGB")) for path in images],
            "semiseg": lambda: _views(files, options),
            "semiseg, data.cache": lambda: _views(cached, options),
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seconds = median_seconds(calls, repeats, torch.device("cpu"))
        torch.set_num_threads(threads)
    each = {name: spent / PICTURES for name, spent in seconds.items()}
    rows = [{"way": n, "images/s/core": round(1 / s, 1), "ms": round(1000 * s, 2)} for n, s in each.items()]
    usual, _, ours, in_memory = seconds.values()
    note = f"{usual / ours:.2f}x the usual way ({usual / in_memory:.2f}x from memory); target {TARGET}x."
    return Table(f"weak view: {title}", rows, note)


def usual_view(image: Path, mask: Path, options: AugmentOptions) -> tuple[Tensor, Tensor]:
    """The weak view as one writes it with PIL and torchvision's transforms: resize, flip, pad, crop, normalise.

    Returns image (3, h, w) float32 and label (h, w) int64; h x w is the crop.
    """
    # Any: these functions take pictures, which their annotations do not say.
    picture: Any = Image.open(image).convert("RGB")
    label: Any = Image.open(mask)
    scale = random.uniform(options.scale_min, 1) if random.random() < 0.5 else random.uniform(1, options.scale_max)
    size = [int(picture.height * scale), int(picture.width * scale)]
    picture = tv.resize(picture, size, InterpolationMode.BILINEAR)
    label = tv.resize(label, size, InterpolationMode.NEAREST)
    if random.random() < options.flip:
        picture, label = tv.horizontal_flip(picture), tv.horizontal_flip(label)
    crop = (options.crop_height, options.crop_width)
    frame = [0, 0, max(crop[1] - size[1], 0), max(crop[0] - size[0], 0)]
    picture, label = tv.pad(picture, frame, fill=0), tv.pad(label, frame, fill=IGNORE)
    top, left = random.randint(0, picture.height - crop[0]), random.randint(0, picture.width - crop[1])
    picture, label = tv.crop(picture, top, left, *crop), tv.crop(label, top, left, *crop)
    tensor = tv.normalize(tv.to_dtype(tv.pil_to_tensor(picture), torch.float32, scale=True), list(MEAN), list(STD))
    return tensor, torch.from_numpy(np.array(label, dtype=np.int64))


def _views(images: ImageSet, options: AugmentOptions) -> None:
    """Normalised too, which in training the main process does, on its device."""
    rng = np.random.default_rng(0)
    for index in range(len(images)):
        view, _, valid = weak_view(images.image(index), images.mask(index), options, IGNORE, rng)
        normalise(view).mul_(valid)
