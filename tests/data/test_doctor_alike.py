"""Near-duplicates: other versions of a picture are found, and pictures of the same even, noisy scene are none."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from support.own_folders import mask, save

from semiseg.config.options import DataOptions
from semiseg.data.doctor.examine import examine

PAIRS = 50
HEIGHT, WIDTH = 60, 80


def scene(kind, seed, noise=12):
    """Pixels (H, W, 3) of a scene whose light is the same in all pictures of its kind."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    light = {
        "flat": np.full((HEIGHT, WIDTH), 120.0),
        "sky": 200 - 60 * y,
        "microscope": 180 - 80 * ((y - 0.5) ** 2 + (x - 0.66) ** 2),
        "corner": 90 + 60 * x * y,
        "block": np.full((HEIGHT, WIDTH), 60.0),
    }
    made = light.get(kind, light["microscope"]).copy()
    if kind == "cells":
        for _ in range(8):
            cv2.circle(made, (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))), int(rng.integers(2, 6)), 90.0, -1)
    if kind == "block":
        top, left = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 20)
        made[top : top + 20, left : left + 20] = 120
    if kind == "photograph":
        coarse = rng.integers(0, 256, (6, 8), np.uint8).astype(np.float32)
        made = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(float)
    return np.clip(made[..., None] + rng.normal(0, noise, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def compressed(pixels, quality=70):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(pixels, factor):
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def shifted(pixels, by, gain=1.0):
    return np.clip(pixels * gain + by, 0, 255).astype(np.uint8)


VERSIONS = {
    "compressed": compressed,
    "half": lambda pixels: resized(pixels, 0.5),
    "larger": lambda pixels: resized(pixels, 1.5),
    "brighter": lambda pixels: shifted(pixels, 30),
    "paler": lambda pixels: shifted(pixels, 20, 0.8),
}


def alike(root, pairs):
    """The scored pictures, of `pairs` scored and trained on, that the check says have a near-duplicate."""
    for place, pair in enumerate(pairs):
        for name, pixels in zip((f"shot_{2 * place}", f"shot_{2 * place + 1}"), pair, strict=True):
            save(pixels, root / f"images/{name}.png")
            save(cv2.resize(mask(place), pixels.shape[1::-1]), root / f"masks/{name}.png")
    scored = [f"shot_{2 * place}" for place in range(len(pairs))]
    (root / "val.txt").write_text("\n".join(scored))
    found = examine(DataOptions(root=root)).findings
    kinds = ("near-duplicates", "video-frames")
    return {path.stem for each in found if each.kind in kinds for path in each.files} & {*scored}


@pytest.mark.parametrize("kind", ["flat", "sky", "microscope", "corner", "cells", "photograph"])
def test_unrelated_pictures_of_one_kind_of_scene_are_no_duplicates(tmp_path, kind):
    # Every scored picture is held against all fifty that are trained on.
    assert alike(tmp_path, [(scene(kind, seed), scene(kind, 1000 + seed)) for seed in range(PAIRS)]) == set()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["cells", "block", "photograph"])
def test_another_version_of_a_picture_is_found(tmp_path, kind, version):
    pictures = [scene(kind, seed, noise=4) for seed in range(PAIRS)]
    assert len(alike(tmp_path, [(pixels, VERSIONS[version](pixels)) for pixels in pictures])) == PAIRS
