"""Large photographs: what a crop of one costs, and a step on them, by where decoded pictures are kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from semiseg.config.options import AugmentOptions
from semiseg.costs.bench.pictures import QUALITY, draw_picture
from semiseg.costs.bench.step import StepBench, config_for
from semiseg.costs.bench.table import Table
from semiseg.data.decode_cache import DecodeCache
from semiseg.data.images import read_image
from semiseg.parts.augment import weak_view
from semiseg.runtime.timing import Call, median_seconds

KINDS = {"1296x966 PNG": ((966, 1296), ".png"), "4000x3000 JPEG": ((3000, 4000), ".jpg")}  # (H, W), as cameras have it
SMALL = (160, 208)  # pixels of the pictures that are held against them
CROP = 128
BATCH, LABELED = 4, 8  # of each half of a step; pictures with masks
DRAWN = 3  # different pictures of a set; the others are links to them
LATER, FIRST = 1.10, 1.5  # most that a step may take over one on small pictures in memory

OPTIONS = {
    **{"network.encoder": "resnet18", "network.multi_grid": False, "network.weights": "none"},
    **{"augment.crop_height": CROP, "augment.crop_width": CROP, "train.precision": "fp32"},
    **{"train.batch_labeled": BATCH, "train.batch_unlabeled": BATCH, "train.workers": 0, "train.threads": 1},
}
"""Without loading processes and with one thread: all work is in the step, as where a training fills every core."""


def bench_large(repeats: int = 5) -> Iterator[Table]:
    """A crop, by where it comes from, and a step, by what `data.cache` is and whether the pictures were seen before."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name, _cache_in(Path(name)) as choose:
        top = Path(name)
        small = _written(top / "small", SMALL, ".jpg", repeats)
        for title, (size, ending) in KINDS.items():
            root = _written(top / title, size, ending, repeats)
            yield _crops(title, root / f"images/0000{ending}", top / "one", repeats)
            yield _steps(title, small, root, choose, repeats)
    torch.set_num_threads(threads)


def _crops(title: str, path: Path, folder: Path, repeats: int) -> Table:
    cache, options = DecodeCache(folder, 1e12), AugmentOptions(crop_height=CROP, crop_width=CROP)
    whole = cache.pixels(title, lambda: read_image(path))
    rng = np.random.default_rng(0)

    def crop(pixels: np.ndarray) -> np.ndarray:
        top, left = (int(rng.integers(side - CROP)) for side in pixels.shape[:2])
        return pixels[top : top + CROP, left : left + CROP].copy()

    def mapped() -> np.ndarray:
        return cache.pixels(title, lambda: read_image(path))

    calls: dict[str, Call] = {
        "crop, decoded by Pillow": lambda: crop(np.asarray(Image.open(path).convert("RGB"))),
        "crop, decoded by OpenCV": lambda: crop(np.asarray(cv2.imread(str(path)))),
        "crop, from the file of the cache": lambda: crop(mapped()),
        "crop, from memory": lambda: crop(whole),
        "weak view, decoded": lambda: weak_view(read_image(path), None, options, 255, rng),
        "weak view, from the file of the cache": lambda: weak_view(mapped(), None, options, 255, rng),
        "resize of the whole by 1.3": lambda: cv2.resize(whole, None, fx=1.3, fy=1.3),
    }
    seconds = median_seconds(calls, 3 * repeats, torch.device("cpu"))
    return Table(f"a crop of {CROP}: {title}", [{"what": n, "ms": round(1000 * s, 3)} for n, s in seconds.items()])


def _steps(title: str, small: Path, large: Path, choose: Any, repeats: int) -> Table:
    """The four ways in turn, in one process; the first pass has as many new pictures as steps ask for.

    FixMatch, for the start of prototypes would look at the large pictures whole.
    """
    ways = {
        "small pictures, memory": (small, "memory"),
        "off": (large, "off"),
        "disk, first pass": (large, "disk"),
        "disk, later": (large, "disk"),
    }
    benches: dict[str, StepBench] = {}
    for way, (root, cache) in ways.items():
        choose(f"{title} {way}")
        config = config_for("fixmatch", {**OPTIONS, "data.cache": cache}, root)
        benches[way] = StepBench(config, torch.device("cpu"))
    for images in (benches["disk, later"].dataset.labeled, benches["disk, later"].dataset.unlabeled):
        for place in range(len(images)):
            images.image(place)
    calls: dict[str, Call] = {way: bench.step for way, bench in benches.items()}
    seconds = median_seconds(calls, repeats, torch.device("cpu"))
    base = next(iter(seconds.values()))
    targets = {"disk, first pass": f"< {FIRST}", "disk, later": f"< {LATER:.2f}"}
    rows = [
        {"data.cache": way, "s": round(spent, 4), "time ratio": round(spent / base, 3), "target": targets.get(way, "")}
        for way, spent in seconds.items()
    ]
    note = (
        f"{2 * BATCH} crops of {CROP} a step, one thread, no loading process. In a first pass {BATCH} pictures a step "
    )
    return Table(f"step on {title}", rows, note + "without a mask are new, and the labelled ones until each was seen.")


def _written(root: Path, size: tuple[int, int], ending: str, repeats: int) -> Path:
    """Labelled pictures, and unlabelled ones for so many steps: a few drawn ones, under many names."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(LABELED + BATCH * (repeats + 4)):
        path, first = (root / f"images/{number:04}{ending}" for number in (index, index % DRAWN))
        if index < DRAWN:
            image, mask = draw_picture(size, index, np.random.default_rng(index))
            image.save(path, quality=QUALITY)  # which a PNG has not
            mask.save(root / f"masks/{index:04}.png")
        else:
            os.link(first, path)
            if index < LABELED:
                os.link(root / f"masks/{index % DRAWN:04}.png", root / f"masks/{index:04}.png")
    return root


@contextlib.contextmanager
def _cache_in(top: Path) -> Iterator[Any]:
    """What is yielded chooses a folder of the decode cache, by name, until the end."""
    kept = os.environ.get("SEMISEG_CACHE")

    def choose(name: str) -> None:
        os.environ["SEMISEG_CACHE"] = str(top / "cache" / name)

    try:
        yield choose
    finally:
        os.environ.pop("SEMISEG_CACHE", None)
        os.environ.update({} if kept is None else {"SEMISEG_CACHE": kept})
