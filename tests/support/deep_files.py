"""Small pictures of any depth and number of bands, and folders of them."""

import cv2
import numpy as np
import tifffile
from PIL import Image

TINY = [
    "--network.encoder", "test_resnet", "--network.output_stride", "32", "--network.channels", "8",
    "--network.weights", "none", "--augment.crop_height", "32", "--augment.crop_width", "32", "--train.workers", "0",
    "--train.threads", "1", "--train.batch_labeled", "2", "--train.batch_unlabeled", "2", "--train.steps", "4",
    "--train.device", "cpu",
]  # fmt: skip


def drawn(bands, dtype, seed=0, size=(40, 48)):
    """(H, W, N) with noise and a box; whole numbers up to half of what the type holds."""
    rng = np.random.default_rng(seed)
    values = 0.1 + 0.2 * rng.random((*size, bands))
    values[8:24, 10:30] += np.linspace(0.2, 0.6, bands)
    dtype = np.dtype(dtype)
    return values.astype(dtype) if dtype.kind == "f" else (values * np.iinfo(dtype).max / 2).astype(dtype)


def save(path, values, **options):
    """A TIFF as the numbers are, or a PNG of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        shown = values[..., 0] if values.shape[2] == 1 else values[..., [2, 1, 0, 3][: values.shape[2]]]
        assert cv2.imwrite(str(path), shown)
        return path
    page = values if values.shape[2] > 1 else values[..., 0]
    tifffile.imwrite(path, page, **({"photometric": "minisblack", "planarconfig": "contig"} | options))
    return path


def save_mask(path, size=(40, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[8:24, 10:30] = 1
    Image.fromarray(mask).save(path)


def folder(root, bands, dtype, ending="tif", change=lambda values, index: values):
    """Five images with masks, i0 to i4, and three without."""
    for index in range(8):
        save(root / f"images/i{index}.{ending}", change(drawn(bands, dtype, index), index))
        if index < 5:
            save_mask(root / f"masks/i{index}.png")
    return root
