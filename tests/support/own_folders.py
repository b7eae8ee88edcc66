"""A folder of one's own without any fault, in every layout, for the tests of the check."""

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
NAMES = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew")
MORE = ("alder", "beech", "holly", "lime", "plum", "willow")


def picture(seed):
    """Pixels (H, W, 3) that look like those of no other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def mask(seed, classes=2):
    """Indices (H, W), each class in a block of its own."""
    made = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value in range(1, classes):
        left = 4 + 18 * (value - 1) + seed % 3
        made[8 + seed % 5 : 30, left : left + 14] = value
    return made


def save(pixels, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write(root, image="images/{}.jpg", mask_at="masks/{}.png", more="images/{}.jpg", names=NAMES, start=0, classes=2):
    """Twelve pairs and six images without, at the paths given; `more` None: none without."""
    for seed, name in enumerate(names, start):
        save(picture(seed), root / image.format(name))
        save(mask(seed, classes), root / mask_at.format(name))
    for seed, name in enumerate(MORE if more else (), 100):
        save(picture(seed), root / more.format(name))
    return root


def _parts(root, image, mask_at, more):
    write(root, image.replace("PART", "train"), mask_at.replace("PART", "train"), more, NAMES[:8])
    write(root, image.replace("PART", "val"), mask_at.replace("PART", "val"), None, NAMES[8:], 8)


LAYOUTS = {
    "standard": lambda root: write(root),
    "unlabeled folder": lambda root: write(root, more="unlabeled/{}.png"),
    "unlabelled folder": lambda root: write(root, more="unlabelled/{}.tif"),
    "labels": lambda root: write(root, mask_at="labels/{}.png"),
    "annotations": lambda root: write(root, mask_at="annotations/{}.png"),
    "gt": lambda root: write(root, mask_at="gt/{}.png"),
    "mask": lambda root: write(root, mask_at="mask/{}.png"),
    "tif masks": lambda root: write(root, mask_at="masks/{}.tif"),
    "masks/NAME_mask": lambda root: write(root, mask_at="masks/{}_mask.png"),
    "NAME_mask in images": lambda root: write(root, mask_at="images/{}_mask.png"),
    "NAME_mask in one folder": lambda root: write(root, "{}.jpg", "{}_mask.png", "{}.jpg"),
    "NAME_label": lambda root: write(root, "{}.jpg", "{}_label.png", "{}.jpg"),
    "NAME_gt across folders": lambda root: write(root, "photos/{}.jpg", "drawn/{}_gt.png", "photos/{}.jpg"),
    "side by side": lambda root: write(root, "{}.jpg", "{}.png", "{}.jpg"),
    "side by side in images": lambda root: write(root, "images/{}.jpg", "images/{}.png"),
    "loose and masks": lambda root: write(root, "{}.jpg", "masks/{}.png", "{}.jpg"),
    "train/ and val/": lambda root: _parts(root, "PART/images/{}.jpg", "PART/masks/{}.png", "train/images/{}.jpg"),
    "train/ and val/, flat": lambda root: _parts(root, "PART/{}.jpg", "PART/{}_mask.png", "unlabeled/{}.jpg"),
    "images/train": lambda root: _parts(root, "images/PART/{}.jpg", "masks/PART/{}.png", "images/train/{}.jpg"),
    "labels/train": lambda root: _parts(root, "images/PART/{}.jpg", "labels/PART/{}.png", "images/train/{}.jpg"),
}
"""Layout -> what writes a clean folder of it."""
