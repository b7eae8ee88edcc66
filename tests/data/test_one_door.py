"""Nothing but `data.images`, and `data.deep` behind it, asks a decoder of pictures: a syntax tree tells."""

import ast
from pathlib import Path

import pytest

import semiseg

SOURCE = Path(semiseg.__file__).parent
DOOR = "data/images.py"
DEEP = "data/deep.py"  # 16 bits and many bands: what it opens, `images.open_file` opened, and the content said its kind
EXCEPTIONS = {
    "costs/bench/data.py": {"PIL.Image.open"},  # times Pillow alone, against which the door is measured
    "costs/bench/large.py": {"PIL.Image.open", "cv2.imread"},  # the same
    "analysis/tally.py": {"cv2.imdecode"},  # unpacks what it packed itself, in memory
    "evaluation/written.py": {"rasterio", "rasterio.windows.Window", "rasterio.open"},  # writes GeoTIFFs
    "data/formats.py": {"PIL.TiffImagePlugin.TiffImageFile"},  # asks for a class, and never calls it
}
"""Files that name a decoder and open no picture of a user."""

LIBRARIES = ("imageio", "tifffile", "torchvision.io", "skimage.io", "rasterio", "pydicom", "pyvips", "simplejpeg")
"""Libraries that are there to decode pictures: no import of them."""

CALLS = ("imread", "imreadmulti", "imdecode", "imdecodemulti", "decode_image", "decode_jpeg", "decode_png")
"""Functions that decode, whatever they are taken from."""

PILLOW = ("PIL.Image.open", "PIL.ImageFile.Parser", "PIL.ImageFile.ImageFile", "PIL.Image.core")
PLUGIN = "Plugin"  # Pillow's decoders are classes in modules named so


def decoders(text):
    """Dotted names of decoders that a file imports or names, as `PIL.Image.open`."""
    tree, names, found = ast.parse(text), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname: each.name for each in node.names if each.asname}
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            found |= {f"{node.module}.{each.name}" for each in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            found.add(names.get(first, first) + dot + rest)
    return {name for name in found if is_decoder(name) and "(" not in name}


def is_decoder(name):
    parts = name.split(".")
    known = any(name == each or name.startswith(f"{each}.") for each in (*PILLOW, *LIBRARIES))
    plugin = parts[0] == "PIL" and len(parts) > 2 and PLUGIN in parts[1] and parts[2].endswith("ImageFile")
    return known or plugin or parts[-1] in CALLS


@pytest.mark.parametrize(
    "way",
    [
        "from PIL import Image; Image.open(x)",
        "from PIL import Image as I; I.open(x)",
        "import PIL.Image; PIL.Image.open(x)",
        "from PIL.Image import open as o; o(x)",
        "from PIL import Image; f = Image.open",
        "from PIL import ImageFile; ImageFile.Parser()",
        "from PIL.PngImagePlugin import PngImageFile; PngImageFile(x)",
        "from PIL import PngImagePlugin; PngImagePlugin.PngImageFile(x)",
        "import cv2; cv2.imread(x)",
        "from cv2 import imdecode",
        "import imageio.v3 as iio; iio.imread(x)",
        "import tifffile",
        "from torchvision.io import read_image",
        "from torchvision import io; io.read_image(x)",
        "from skimage import io; io.imread(x)",
        "import matplotlib.pyplot as plt; plt.imread(x)",
    ],
)
def test_every_way_to_a_decoder_is_noticed(way):
    assert decoders(way), way


@pytest.mark.parametrize(
    "way",
    [
        "open(x)",
        "from PIL import Image; Image.fromarray(x).save(y)",
        "import cv2; cv2.resize(x)",
        "from torchvision.transforms.v2 import functional",
        "from semiseg.data.images import read_image; read_image(x)",
    ],
)
def test_what_decodes_nothing_is_no_decoder(way):
    assert decoders(way) == set()


def test_pictures_come_in_through_one_door():
    texts = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    users = {name: found for name, text in texts.items() if (found := decoders(text))}
    assert "PIL.Image.open" in users.pop(DOOR)
    assert {name.partition(".")[0] for name in users.pop(DEEP)} == {"PIL", "cv2", "rasterio", "tifffile"}
    assert users == EXCEPTIONS
