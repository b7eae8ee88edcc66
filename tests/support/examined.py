"""A folder of drawn pictures with masks, for trainings that take a second."""

import numpy as np
from PIL import Image

CLASSES = ("field", "disc", "bar")
TINY = {
    "train.steps": 3, "train.threads": 1, "train.workers": 0, "train.batch_labeled": 2, "train.batch_unlabeled": 2,
    "train.device": "cpu", "augment.crop_height": 32, "augment.crop_width": 32, "network.name": "fpn",
    "network.encoder": "test_resnet", "network.channels": 8, "network.weights": "none",
    "evaluation.instruments": False, "evaluation.hidden": 0,
}  # fmt: skip
"""Options of a planned training that takes a second."""


def drawn_folder(root, masks=6, images=10, size=(48, 64), seed=0):
    """Pictures of discs and bars on a field, the first `masks` of `images` with a mask; returns `root`."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    colours = np.array([[40, 90, 40], [200, 60, 60], [60, 80, 210]])
    for number in range(images):
        label = np.zeros(size, np.uint8)
        y, x, radius = rng.uniform(12, size[0] - 12), rng.uniform(12, size[1] - 12), rng.uniform(7, 11)
        label[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
        left = int(rng.integers(2, size[1] - 12))
        label[4:14, left : left + 8] = 2
        picture = (colours[label] + rng.normal(0, 12, (*size, 3))).clip(0, 255).astype(np.uint8)
        name = "".join(rng.choice([*"abcdefghij"], 6))  # numbers would be frames of a video
        Image.fromarray(picture).save(root / f"images/{name}.png")
        if number < masks:
            Image.fromarray(label).save(root / f"masks/{name}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root
