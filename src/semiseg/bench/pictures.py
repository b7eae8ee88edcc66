"""Photographs to measure with: drawn scenes with grain, written as JPEG and PNG the way people keep theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.scenes import draw_scene
from semiseg.options import SceneOptions

GRAIN = 6.0  # standard deviation in steps of 255: a JPEG of a scene then takes as many bytes as one of a photograph
QUALITY = 90


def write_pictures(folder: Path, labeled: int, unlabeled: int, size: tuple[int, int]) -> None:
    """`labeled` images with masks and `unlabeled` ones without, (H, W) pixels, as the `folder` dataset wants them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    options = SceneOptions(height=size[0], width=size[1])
    rng = np.random.default_rng(0)
    for index in range(labeled + unlabeled):
        scene = draw_scene(options, "unlabeled", index)
        grain = rng.normal(0, GRAIN, scene.image.shape)
        image = Image.fromarray((scene.image + grain).clip(0, 255).astype(np.uint8))
        image.save(folder / "images" / f"{index:04}.jpg", quality=QUALITY)
        if index < labeled:
            Image.fromarray(scene.mask).save(folder / "masks" / f"{index:04}.png")
