"""A small folder of images and masks, for the tests of one's own data."""

import numpy as np
import pytest
from PIL import Image

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset

SIZE = (6, 8)


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 90, dtype=np.uint8)).save(path)


def save_mask(path, values):
    """A mask whose pixels hold `values`, all of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, dtype=np.uint8), SIZE)).save(path)


def filled(tmp_path):
    """Images m0..m9 with masks of classes 0 and 1, u0..u4 without."""
    for index in range(10):
        save_image(tmp_path / f"images/m{index}.jpg")
        save_mask(tmp_path / f"masks/m{index}.png", [0, 1])
    for index in range(5):
        save_image(tmp_path / f"images/u{index}.png")
    return tmp_path


def lists_of(dataset):
    return {name: set(image_set.names) for name, image_set in dataset.image_sets.items()}


def opened(root, **options):
    return open_dataset(DataOptions(**{"root": root, "cache": "off", **options}))  # which would be measured


def fails(root, pattern, **options):
    with pytest.raises(ValueError, match=pattern):
        opened(root, **options)
