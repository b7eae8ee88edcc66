"""Photographs to measure with: drawn scenes with grain, written as JPEG and PNG the way people keep theirs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.config.options import SceneOptions
from semiseg.data.sets.scenes import draw_scene

GRAIN = 6.0  # standard deviation in steps of 255: a JPEG of a scene then takes as many bytes as one of a photograph
QUALITY = 90
LINKS = 60_000  # names that one file may have, less a few


def write_pictures(folder: Path, labeled: int, unlabeled: int, size: tuple[int, int]) -> None:
    """`labeled` images with masks and `unlabeled` ones without, (H, W) pixels, as the `folder` dataset wants them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(labeled + unlabeled):
        image, mask = draw_picture(size, index, rng)
        image.save(folder / "images" / f"{index:04}.jpg", quality=QUALITY)
        if index < labeled:
            mask.save(folder / "masks" / f"{index:04}.png")


def draw_picture(size: tuple[int, int], index: int, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Photograph `index` of (H, W) pixels, and its mask."""
    scene = draw_scene(SceneOptions(height=size[0], width=size[1]), "unlabeled", index)
    grain = rng.normal(0, GRAIN, scene.image.shape)
    return Image.fromarray((scene.image + grain).clip(0, 255).astype(np.uint8)), Image.fromarray(scene.mask)


def write_many_names(folder: Path, count: int) -> None:
    """A small dataset, and beside it `count` unlabelled images: names are what counts, so many share a file."""
    write_pictures(folder, 10, 0, (64, 64))
    picture = folder / "images/0000.jpg"
    for number in range(count):
        if number % LINKS == 0:
            picture = shutil.copyfile(picture, folder / f"picture-{number}.jpg")
        os.link(picture, folder / f"images/photo-{number:07}.jpg")
