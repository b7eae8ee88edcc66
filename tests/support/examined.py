"""A folder of drawn pictures with masks, and what a plain look at it finds."""

import numpy as np
from PIL import Image

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.doctor.examination import Examination, SeenClass, SeenImage


def drawn_folder(root, masks=6, images=10, size=(48, 64), seed=0, classes=("field", "disc", "bar")):
    """Pictures of discs and bars on a field, the first `masks` of `images` with a mask."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for number in range(images):
        label = np.zeros(size, np.uint8)
        y, x, radius = rng.uniform(12, size[0] - 12), rng.uniform(12, size[1] - 12), rng.uniform(7, 11)
        label[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
        left = int(rng.integers(2, size[1] - 12))
        label[4:14, left : left + 8] = 2
        colours = np.array([[40, 90, 40], [200, 60, 60], [60, 80, 210]])
        picture = colours[label] + rng.normal(0, 12, (*size, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / f"images/p{number:02d}.png")
        if number < masks:
            Image.fromarray(label).save(root / f"masks/p{number:02d}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return root


def examined(options: DataOptions, **_) -> Examination:
    """What `examine` finds in such a folder, by opening it."""
    dataset = open_dataset(options)
    masks, seen = {}, []
    for path in sorted((options.root / "images").iterdir()):
        with Image.open(path) as picture:
            seen.append(SeenImage(path.stem, path, picture.height, picture.width, 3, "uint8", "RGB"))
        if (options.root / "masks" / path.name).is_file():
            masks[path.stem] = options.root / "masks" / path.name
    split = {name: tuple(images.names) for name, images in dataset.image_sets.items()}
    classes = tuple(SeenClass(name, 0.0, 0, 0) for name in dataset.classes)
    return Examination(options.root, "images/ and masks/", tuple(seen), masks, classes, split, options, ())
