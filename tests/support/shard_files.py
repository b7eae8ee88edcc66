"""Pictures and tars for the tests of shards."""

import tarfile
from io import BytesIO

import numpy as np
from PIL import Image
from rich.console import Console
from support.folders import filled

QUIET = Console(quiet=True)


def save_noise(path, seed, size=(33, 40), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def awkward(root):
    """Five plain images without masks, and some that a tar or a reader may stumble over."""
    filled(root)
    for number in range(5):
        save_noise(root / f"images/u{number}.png", number)
    turned = Image.Exif()
    turned[0x0112] = 6
    save_noise(root / "images/rome/turned.JPG", 7, (30, 50), exif=turned)
    save_noise(root / f"images/{'long' * 20}/{'name' * 30}.jpeg", 8)
    save_noise(root / "images/rome/grün.webp", 9)
    return root


def write_tar(path, files, mode="w", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))


def png(seed):
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (33, 35, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()
