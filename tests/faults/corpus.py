"""Bad input, made here: each case spoils a small sound place, and says what the command line must answer."""

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from semiseg.studies.faults import subject

SIZE = (40, 36)  # height, width
CLASSES = ("ground", "tree", "bird")

RECIPE = {
    "method": "cutmix",
    "seed": 3,
    "data": {"dataset": "folder", "labeled": "labeled.txt", "val": "val.txt"},
    "augment": {"crop_height": 32, "crop_width": 32, "scale_min": 1.0, "scale_max": 1.0},
    "network": subject.RECIPE["network"],
    "train": {
        "steps": 2,
        "batch_labeled": 2,
        "batch_unlabeled": 2,
        "precision": "fp32",
        "threads": 1,
        "device": "cpu",
        "workers": 0,
        "log_every": 1,
        "evaluate_every": 2,
        "checkpoint_every": 1,
    },
}
"""Two steps in which every image is read."""


@dataclass(frozen=True)
class Place:
    """What a case may spoil: a dataset with lists, a recipe, a finished run, shards, and pictures to predict."""

    top: Path

    def __getattr__(self, name: str) -> Path:
        return self.top / name

    @property
    def recipe(self) -> Path:
        return self.top / "recipe.yaml"


@dataclass(frozen=True)
class Case:
    """One bad input. `words` is the command; `says` are patterns that its message must have."""

    name: str
    spoil: Callable[[Place], object]
    words: str
    says: tuple[str, ...]
    codes: tuple[int, ...] = (2,)


TRAIN = "train {recipe} --data.root {data} --run {new}"
RESUME = "train {recipe} --data.root {data} --run {run} --resume"
EVALUATE = "evaluate {run} --checkpoint last"
PREDICT = "predict {run} {photos} --out {out}"
REPORT = "report {run}"
SHARDED = "train {recipe} --data.root {data} --data.unlabeled_shards {shards} --run {new}"


# The sound place ------------------------------------------------------------------------------------------------------


def noise(seed: int, size: tuple[int, int] = SIZE, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)


def save_mask(path: Path, values=(0, 1, 2, 255), size=SIZE) -> None:
    """Quarters of the values, in blocks as of objects."""
    columns = np.repeat(np.resize(np.array(values, np.uint8), len(values)), -(-size[1] // len(values)))[: size[1]]
    Image.fromarray(np.ascontiguousarray(np.broadcast_to(columns, size))).save(path)


def build(top: Path) -> Place:
    """The dataset, the recipe and the pictures; the run and the shards are made by the commands."""
    place = Place(top)
    for folder in (place.data / "images", place.data / "masks", place.photos):
        folder.mkdir(parents=True)
    for number, name in enumerate(("l0", "l1", "u0", "u1", "u2", "u3", "v0", "v1")):
        Image.fromarray(noise(number)).save(place.data / f"images/{name}.png")
        if name[0] in "lv":
            save_mask(place.data / f"masks/{name}.png")
    for name in ("a", "b"):
        Image.fromarray(noise(ord(name))).save(place.photos / f"{name}.png")
    (place.data / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (place.data / "labeled.txt").write_text("l0\nl1\n")
    (place.data / "val.txt").write_text("v0\nv1\n")
    place.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return place


# Bytes that are no sound picture --------------------------------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, color: int = 2) -> bytes:
    """A PNG with these chunks after its header, and no others but the end."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def deep_png(channels: int) -> bytes:
    """16 bits per channel, which Pillow cannot write in colour."""
    rows = noise(1, SIZE, channels, np.uint16).astype(">u2").reshape(SIZE[0], -1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(SIZE[1], SIZE[0], (b"IDAT", zlib.compress(content)), depth=16, color={1: 0, 3: 2, 4: 6}[channels])


def tiff(width: int, height: int, samples: int, bits: int, sample_format: int = 1, rows: int | None = None) -> bytes:
    """An uncompressed TIFF in one strip of `rows` rows, with the bytes of 40 x 36 pixels of `samples` bands."""
    size = 40 * 36 * samples * bits // 8
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 2 if samples >= 3 else 1), (273, 4, 8),
        (277, 3, samples), (278, 4, rows or height), (279, 4, size), (339, 3, sample_format),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + directory + struct.pack("<I", 0)


def pages(kind: str) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.fromarray(noise(seed)) for seed in range(5)]
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


SOUND = encoded(noise(9))
PALETTE = encoded(noise(9, channels=1), "BMP")
PICTURES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x89",
    "cut short": SOUND[: len(SOUND) // 2],
    "header alone": SOUND[:33],
    "text": b"this is no picture\n",
    "html": b"<!doctype html><html><body>404 not found</body></html>",
    "zeros": bytes(4000),
    "flipped bits": SOUND[:200] + bytes(255 - byte for byte in SOUND[200:260]) + SOUND[260:],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 36 40\n%%EndComments\nshowpage\n%%EOF\n",
    "bomb": png(60000, 60000, (b"IDAT", zlib.compress(bytes(9000)))),
    "no pixels": png(0, 40, (b"IDAT", zlib.compress(b""))),
    "no data": png(36, 40),
    "text of a megabyte": png(36, 40, (b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))),
    "16-bit grey": deep_png(1),
    "16-bit colour": deep_png(3),
    "16-bit colour and alpha": deep_png(4),
    "float": tiff(36, 40, 1, 32, 3),
    "5 bands": tiff(36, 40, 5, 8),
    "12 bands": tiff(36, 40, 12, 8),
    "wild dimensions": tiff(0x7FFFFFFF, 0x7FFFFFFF, 3, 8),
    # Found by fuzzing.
    "less than it claims": tiff(36, 4000, 4, 8),
    "strips for a part of it": tiff(36, 4000, 4, 8, rows=40),
    "no width": tiff(36, 40, 3, 8).replace(struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 255, 4, 1)),
    "a palette of 65536": PALETTE[:46] + struct.pack("<I", 65536) + PALETTE[50:],
    "a frame of nothing": b"GIF87a" + struct.pack("<HHBBB", 36, 40, 0x80, 0, 0) + bytes(6) + b"," + bytes(9) + b"\x08;",
}
"""What may lie where a picture is expected; none can be read as one without changing what it shows."""

SEVERAL: dict[str, bytes] = {"tiff of pages": pages("TIFF"), "animated png": pages("PNG"), "gif": pages("GIF")}
"""Several pictures in one file: refused, or taken with a word."""


def put(path: str, content: bytes) -> Callable[[Place], object]:
    """Write `content` there."""
    return lambda place: (place.top / path).write_bytes(content)


def pipe(path: str) -> Callable[[Place], object]:
    """A FIFO there, at which a reader waits for ever."""
    return lambda place: ((place.top / path).unlink(missing_ok=True), os.mkfifo(place.top / path))


def folder(path: str) -> Callable[[Place], object]:
    """A folder where a file is expected."""
    return lambda place: ((place.top / path).unlink(missing_ok=True), (place.top / path).mkdir())


def dangling(path: str) -> Callable[[Place], object]:
    """A link to nothing."""
    return lambda place: ((place.top / path).unlink(missing_ok=True), (place.top / path).symlink_to("nowhere"))


def gone(path: str) -> Callable[[Place], object]:
    """No such file."""
    return lambda place: (place.top / path).unlink()


NO_FILES = {"a pipe": pipe, "a folder": folder, "a link to nothing": dangling}


def pictures() -> list[Case]:
    """Every bad picture as a labelled, an unlabelled and a validation image, and as one to predict."""
    cases = []
    for name, content in (PICTURES | SEVERAL).items():
        several = name in SEVERAL
        unseen = (r"(?s)\A(?!.*Ghostscript)",) if name == "postscript" else ()  # which nothing starts
        for image in ("l0", "u1", "v1"):
            path = f"data/images/{image}.png"
            codes = (0, 2) if several else (2,)
            cases.append(Case(f"{name} as {image}", put(path, content), TRAIN, (rf"{image}\.png", *unseen), codes))
        codes = (0, 1) if several else (1,)
        cases.append(Case(f"predict {name} among others", put("photos/a.png", content), PREDICT, (r"a\.png",), codes))
        one = "predict {run} {photos}/a.png --out {out}"
        codes = (0, 1, 2) if several else (1, 2)
        cases.append(Case(f"predict {name} alone", put("photos/a.png", content), one, (r"a\.png",), codes))
    for name, made in NO_FILES.items():
        for image in ("l0", "v1") if name == "a folder" else ("l0", "u1", "v1"):
            says = (rf"{image}",)
            cases.append(Case(f"{name} as {image}", made(f"data/images/{image}.png"), TRAIN, says))
    skipping = f"{TRAIN} --data.on_error skip"
    for name in ("empty", "cut short", "text", "bomb", "16-bit colour", "5 bands", "flipped bits", "postscript"):
        spoil = put("data/images/u1.png", PICTURES[name])
        cases.append(Case(f"skip {name}", spoil, skipping, (r"u1\.png", r"\b1\b"), (0,)))
    return cases


# Masks ----------------------------------------------------------------------------------------------------------------


def mask(values: np.ndarray, mode: str | None = None, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def smooth() -> bytes:
    """A mask that went through JPEG: the borders have values of no class."""
    blocks = np.kron(noise(3, (6, 6), 1) > 128, np.ones((7, 7))).astype(np.uint8)[:40, :36] * 255
    return mask(np.asarray(Image.open(io.BytesIO(encoded(blocks, "JPEG", quality=30)))))


MASKS: dict[str, bytes] = {
    "of another size": mask(np.zeros((20, 18), np.uint8)),
    "turned": mask(np.zeros((36, 40), np.uint8)),
    "beyond the classes": mask(np.full(SIZE, 7, np.uint8)),
    "through jpeg": smooth(),
    "in colour": mask(noise(1)),
    "in colour with alpha": mask(noise(1, channels=4)),
    "grey with alpha": mask(noise(1), "LA"),
    "cmyk": mask(noise(1), "CMYK", "TIFF"),
    "float": tiff(36, 40, 1, 32, 3),
    "16 bits": deep_png(1),
    "16-bit colour": deep_png(3),
    "palette beyond the classes": mask(noise(1), "P"),
    "two pages": pages("TIFF"),
    **{name: PICTURES[name] for name in ("empty", "cut short", "text", "postscript", "bomb", "flipped bits")},
}


def masks() -> list[Case]:
    cases = []
    for name, content in MASKS.items():
        for image in ("l1", "v0"):
            path = f"data/masks/{image}.png"
            cases.append(Case(f"mask {name} of {image}", put(path, content), TRAIN, (rf"masks/{image}\.png",)))
    for name, made in NO_FILES.items():
        cases.append(Case(f"mask {name}", made("data/masks/l1.png"), TRAIN, (r"l1",)))
    for image in ("l0", "v0"):
        cases.append(Case(f"no mask of {image}", gone(f"data/masks/{image}.png"), TRAIN, (image,)))

    def everywhere(values):
        return lambda place: [save_mask(path, values) for path in (place.data / "masks").iterdir()]

    cases.append(Case("masks from 1", everywhere((1, 2, 3)), TRAIN, (r"masks/\w\d\.png", r"1 to 3", "count from 1")))
    cases.append(Case("masks of 0 and 255 for three classes", everywhere((0, 254)), TRAIN, (r"254",)))

    def unknown_without_classes(place: Place) -> None:
        (place.data / "classes.txt").unlink()
        for path in (place.data / "masks").iterdir():
            path.write_bytes(MASKS["through jpeg"])

    cases.append(Case("smoothed masks without classes.txt", unknown_without_classes, TRAIN, (r"masks|classes",)))
    return cases


# Lists and classes ----------------------------------------------------------------------------------------------------

LISTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"{list}"),
    "of comments": (b"# nothing\n\n   \n", r"{list}"),
    "naming nothing": (b"l0\nnobody\n", r"nobody"),
    "naming one twice": (b"u0\nu0\n", r"u0"),
    "of bytes": (b"\xff\xfe\x00\x01\x80" * 9, r"{list}"),
    "in utf-16": ("u0\nu1\n".encode("utf-16"), r"{list}"),
    "with a nul": (b"u0\0\nu1\n", r"{list}|u0"),
    "leading outside": (b"../../secret\n", r"secret"),
    "of an absolute path": (b"/etc/passwd\n", r"passwd"),
    "a picture": (SOUND, r"{list}"),
    "of one endless line": (b"u" * 500_000, r"{list}"),
    "of several columns": (b"u0,u1,u2\n", r"u0,u1,u2"),
}


def lists() -> list[Case]:
    cases = []
    for option in ("labeled", "unlabeled", "val", "test"):
        words = f"{TRAIN} --data.{option} spoiled.txt"
        for name, (content, says) in LISTS.items():
            patterns = (says.format(list=r"spoiled\.txt"),)
            cases.append(Case(f"{option} list {name}", put("data/spoiled.txt", content), words, patterns))
        cases.append(Case(f"no {option} list", lambda place: None, words, (r"spoiled\.txt",)))
    words = f"{TRAIN} --data.labeled spoiled.txt"
    for name, made in NO_FILES.items():
        cases.append(Case(f"labeled list is {name}", made("data/spoiled.txt"), words, (r"spoiled\.txt",)))
    overlap = put("data/spoiled.txt", b"l0\nv0\n")
    cases.append(Case("an image in two lists", overlap, words, (r"v0", r"val")))
    unlabeled = f"{TRAIN} --data.unlabeled spoiled.txt"
    cases.append(Case("a labelled image in the unlabelled list", overlap, unlabeled, (r"l0|v0",)))
    unmasked = put("data/spoiled.txt", b"l0\nu0\n")
    cases.append(Case("a list of images without masks", unmasked, words, (r"masks/u0\.png|u0",)))
    return cases


CLASS_FILES: dict[str, bytes] = {
    "empty": b"",
    "of one class": b"ground\n",
    "of two, and three in the masks": b"ground\ntree\n",
    "of 256 classes": "\n".join(f"c{number}" for number in range(256)).encode(),
    "with a class twice": b"ground\ntree\ntree\n",
    "with a colour twice": b"ground 1 1 1\ntree 2 2 2\nbird 1 1 1\n",
    "with some colours": b"ground 1 1 1\ntree\nbird 3 3 3\n",
    "with a colour beyond 255": b"ground 1 1 1\ntree 2 2 256\nbird 3 3 3\n",
    "with a colour of a kilometre": b"ground 1 1 1\ntree 2 2 " + b"9" * 5000 + b"\nbird 3 3 3\n",
    "with ignore and no colour": b"ground\ntree\nbird\nignore\n",
    "of bytes": b"\xff\xfe\x80\x81\n" * 3,
    "in utf-16": "ground\ntree\nbird\n".encode("utf-16"),
    "a picture": SOUND,
}
HARMLESS = {"with nul": b"ground\ntr\0ee\nbird\n", "with an escape sequence": b"ground\n\x1b[31mtree\nbird\n"}
"""Refused, or taken without harm: no such character is printed."""


def class_files() -> list[Case]:
    path = "data/classes.txt"
    cases = [
        Case(f"classes {name}", put(path, content), TRAIN, (r"classes\.txt",)) for name, content in CLASS_FILES.items()
    ]
    cases += [Case(f"classes {name}", put(path, content), TRAIN, (), (0, 2)) for name, content in HARMLESS.items()]
    cases += [Case(f"classes.txt is {name}", made(path), TRAIN, (r"classes\.txt",)) for name, made in NO_FILES.items()]
    changed = {
        "reordered": b"tree\nground\nbird\n",
        "renamed": b"ground\nshrub\nbird\n",
        "longer": b"ground\ntree\nbird\nsea\n",
    }
    for name, content in changed.items():
        for command, words in (("resume", RESUME), ("evaluate", EVALUATE)):
            cases.append(Case(f"{command} with classes {name}", put(path, content), words, (r"class",)))
    return cases


# Recipes --------------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
RECIPES: dict[str, tuple[bytes, str]] = {
    "a list": (b"- a\n- b\n", r"mapping|expected"),
    "a word": (b"hello\n", r"mapping|expected"),
    "a number": (b"42\n", r"mapping|expected"),
    "no yaml": (b"train: [1, 2\n", r"YAML"),
    "tabs": (b"train:\n\tsteps: 3\n", r"YAML"),
    "a picture": (SOUND, r"YAML|text"),
    "in utf-16": (RECIPE["method"].encode("utf-16"), r"YAML|text|UTF-8|mapping"),
    "aliases of aliases": (BOMB.encode(), r"alias|deep|large|option|key"),
    "aliases of aliases as a value": (f"{BOMB}network:\n  aspp_rates: *h\n".encode(), r"alias|deep|large|option|aspp"),
    "an alias of itself": (b"data: &a\n  root: *a\n", r"alias|root|deep"),
    "nested a thousand times": (b"a: " + b"[" * 3000 + b"]" * 3000, r"deep|YAML|nest"),
    "an object of python": (b"a: !!python/object/apply:os.system ['true']\n", r"YAML|python"),
    "a key twice": (b"train:\n  steps: 2\n  steps: 3\n", r"steps"),
    "an unknown key": (b"train:\n  stepz: 2\n", r"stepz.*steps|steps.*stepz"),
    "an unknown section": (b"trane:\n  steps: 2\n", r"trane"),
    "a number as key": (b"3: 4\n", r"3"),
    "a list as key": (b"? [a, b]\n: c\n", r"YAML|key|hash"),
    "a section that is a list": (b"train: [1]\n", r"train"),
    "a section that is a number": (b"train: 3\n", r"train"),
    "a method that is a list": (b"method: [a]\n", r"method"),
    "a method that is a number": (b"method: 3\n", r"method"),
    "an unknown method": (b"method: magic\n", r"magic"),
    "methods that are a list": (b"methods: [a]\n", r"methods"),
    "presets that are a list": (b"presets: [a]\npreset: a\n", r"preset"),
    "an unknown preset": (b"preset: big\npresets: {small: {seed: 1}}\n", r"big"),
    "steps in words": (b"train:\n  steps: many\n", r"steps"),
    "steps that are true": (b"train:\n  steps: true\n", r"steps"),
    "steps with a fraction": (b"train:\n  steps: 2.7\n", r"steps"),
    "steps that are a list": (b"train:\n  steps: [3]\n", r"steps"),
    "steps that are nothing": (b"train:\n  steps: null\n", r"steps"),
    "a rate that is no number": (b"optim:\n  lr: .nan\n", r"lr"),
    "a rate without end": (b"optim:\n  lr: .inf\n", r"lr"),
    "a negative rate": (b"optim:\n  lr: -1\n", r"lr"),
    "a date": (b"optim:\n  lr: 2020-01-01\n", r"lr"),
    "a negative seed": (b"seed: -1\n", r"seed"),
    "a seed beyond 64 bits": (b"seed: 18446744073709551616\n", r"seed"),
    "a root that is a list": (b"data:\n  root: [a]\n", r"root"),
    "rates of words": (b"network:\n  aspp_rates: [a, b, c]\n", r"aspp_rates"),
    "a mean of two": (b"network:\n  mean: [0.5, 0.5]\n  std: [1, 1]\n", r"mean"),
}  # fmt: skip


def recipes() -> list[Case]:
    cases = [
        Case(f"recipe {name}", put("recipe.yaml", content), TRAIN, (r"recipe\.yaml", says))
        for name, (content, says) in RECIPES.items()
    ]
    cases.append(Case("recipe gone", gone("recipe.yaml"), TRAIN, (r"recipe\.yaml",)))
    cases += [
        Case(f"recipe is {name}", made("recipe.yaml"), TRAIN, (r"recipe\.yaml",)) for name, made in NO_FILES.items()
    ]
    return cases


# Checkpoints and runs -------------------------------------------------------------------------------------------------

LAST = "run/checkpoints/last.pt"


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def changed(change: Callable[[dict], object], path: str = LAST) -> Callable[[Place], object]:
    """The checkpoint saved again after `change`, whole as a file."""

    def spoil(place: Place) -> None:
        state = torch.load(place.top / path, weights_only=True)
        torch.save(state if change(state) is None else change(state), place.top / path)

    return spoil


def edited(path: str, edit: Callable[[bytes], bytes]) -> Callable[[Place], object]:
    """The file with other bytes."""
    return lambda place: (place.top / path).write_bytes(edit((place.top / path).read_bytes()))


def flip(part: float) -> Callable[[bytes], bytes]:
    """One bit turned, so far into the file."""

    def edit(content: bytes) -> bytes:
        place = int(len(content) * part)
        return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]

    return edit


def spoil_weights(value: float) -> Callable[[dict], object]:
    def change(state: dict) -> None:
        next(tensor for tensor in state["method"].values() if tensor.is_floating_point()).fill_(value)

    return change


CHECKPOINTS: dict[str, Callable[[Place], object]] = {
    "gone": gone(LAST),
    "empty": put(LAST, b""),
    "text": put(LAST, b"no checkpoint\n"),
    "cut to a kilobyte": edited(LAST, lambda content: content[:1000]),
    "cut by a byte": edited(LAST, lambda content: content[:-1]),
    "longer": edited(LAST, lambda content: content + b"x"),
    **{f"with a bit turned at {part:.0%}": edited(LAST, flip(part)) for part in (0.01, 0.2, 0.5, 0.8, 0.97)},
    "a pickle that acts": put(LAST, pickle.dumps(Payload())),
    "a list": changed(lambda state: [1, 2]),
    **{
        f"without {part}": changed(lambda state, part=part: {key: state[key] for key in state if key != part})
        for part in ("method", "optimizer", "state", "config", "split")
    },
    **{
        f"with {part} a number": changed(lambda state, part=part: state.update({part: 3}))
        for part in ("method", "optimizer", "state", "config", "split")
    },
    "of nan": changed(spoil_weights(float("nan"))),
    "of inf": changed(spoil_weights(float("inf"))),
    "of another network": changed(lambda state: state.update(method={"a": torch.ones(3)})),
    "of other shapes": changed(
        lambda state: state.update(method={key: tensor.flatten() for key, tensor in state["method"].items()})
    ),
    "of an unknown option": changed(lambda state: state["config"]["train"].update(magic=1)),
    "of an unknown method": changed(lambda state: state["config"]["method"].update(name="magic")),
    "a folder": folder(LAST),
    "a pipe": pipe(LAST),
    "a link to nothing": dangling(LAST),
}
OF_RESUME = ("optimizer", "state")
"""Parts of a checkpoint that scoring does not need."""


def checkpoints() -> list[Case]:
    cases = []
    for name, spoil in CHECKPOINTS.items():
        cases.append(Case(f"resume from a checkpoint {name}", spoil, RESUME, (r"last\.pt",)))
        if name not in [f"with {part} a number" for part in OF_RESUME]:
            cases.append(Case(f"evaluate a checkpoint {name}", spoil, EVALUATE, (r"last\.pt",)))
    cases.append(Case("train into a run", lambda place: None, TRAIN.replace("{new}", "{run}"), (r"run", r"--resume")))
    cases.append(Case("resume with other options", lambda place: None, f"{RESUME} --optim.lr 0.5", (r"optim\.lr",)))
    cases.append(Case("resume without the record", gone("run/metrics.jsonl"), RESUME, (r"metrics",), (0, 2)))
    half = edited("run/metrics.jsonl", lambda content: content.replace(b'{"kind"', b'{"k\xff', 1))
    cases.append(Case("resume with a damaged record", half, RESUME, (r"metrics\.jsonl",), (0, 2)))
    cases.append(Case("evaluate without checkpoints", lambda place: None, "evaluate {data}", (r"data", r"run folder")))
    cases.append(Case("evaluate nothing", lambda place: None, "evaluate {top}/nobody", (r"nobody",)))
    cases.append(Case("evaluate without images", gone("data/images/v0.png"), EVALUATE, (r"v0|val",)))
    return cases


# Models ---------------------------------------------------------------------------------------------------------------

MODEL, WEIGHTS = "run/model/model.json", "run/model/model.safetensors"


def described(change: Callable[[dict], object]) -> Callable[[Place], object]:
    """model.json after `change`."""

    def spoil(place: Place) -> None:
        path = place.top / MODEL
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return spoil


def network(**options: object) -> Callable[[Place], object]:
    return described(lambda about: about["network"].update(options))


def header(change: Callable[[dict], object]) -> Callable[[Place], object]:
    """The weights with another header."""

    def edit(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        tensors = json.loads(content[8 : 8 + length])
        change(tensors)
        text = json.dumps(tensors).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    return edited(WEIGHTS, edit)


def first(tensors: dict) -> dict:
    return next(value for key, value in tensors.items() if key != "__metadata__")


DESCRIPTIONS = ("network", "classes", "colors", "scale", "precision", "evaluation", "headline")
MODELS: dict[str, Callable[[Place], object]] = {
    "gone": gone(MODEL),
    "empty": put(MODEL, b""),
    "text": put(MODEL, b"no model"),
    "a list": put(MODEL, b"[1, 2]"),
    "nested": put(MODEL, b"[" * 200_000),
    "bytes": put(MODEL, b"\xff\xfe\x80"),
    **{f"without {key}": described(lambda about, key=key: about.pop(key)) for key in DESCRIPTIONS},
    **{f"with {key} a number": described(lambda about, key=key: about.update({key: -3})) for key in DESCRIPTIONS},
    "with weights from the hub": network(weights="hub", encoder="resnet18"),
    "with an unknown network": network(name="magic"),
    "with an unknown encoder": network(encoder="magic"),
    "with another encoder": network(encoder="test_vit"),
    "with channels of a galaxy": network(channels=10**9),
    "with channels none": network(channels=0),
    "with one class less": described(lambda about: about.update(classes=about["classes"][1:])),
    "with colours beyond 255": described(lambda about: about.update(colors=[[300, 0, 0]] * 3)),
    "with a colour less": described(lambda about: about.update(colors=about["colors"][1:])),
    "with a colour of two": described(lambda about: about.update(colors=[[1, 2]] * 3)),
    "with the scale 0": described(lambda about: about.update(scale=0)),
    "with the scale nan": described(lambda about: about.update(scale=float("nan"))),
    "with the scale of a galaxy": described(lambda about: about.update(scale=1e9)),
    "with an unknown precision": described(lambda about: about.update(precision="fp3")),
    "with a stride of 0": described(lambda about: about["evaluation"].update(protocol="slide", stride=0)),
    "a folder": folder(MODEL),
    "a pipe": pipe(MODEL),
}
WEIGHT_FILES: dict[str, Callable[[Place], object]] = {
    "gone": gone(WEIGHTS),
    "empty": put(WEIGHTS, b""),
    "text": put(WEIGHTS, b"no weights, but more than eight bytes"),
    "cut by half": edited(WEIGHTS, lambda content: content[: len(content) // 2]),
    "longer": edited(WEIGHTS, lambda content: content + b"x"),
    "with a header of a galaxy": edited(WEIGHTS, lambda content: b"\xff" * 8 + content[8:]),
    "with a header of zeros": edited(WEIGHTS, lambda content: bytes(8) + content[8:]),
    "with a bit turned": edited(WEIGHTS, flip(0.6)),
    "of another shape": header(lambda tensors: first(tensors).update(shape=[1, 2, 3])),
    "of another type": header(lambda tensors: first(tensors).update(dtype="I32")),
    "beyond the end": header(lambda tensors: first(tensors).update(data_offsets=[0, 10**12])),
    "without a tensor": header(lambda tensors: tensors.pop(next(key for key in tensors if key != "__metadata__"))),
    "a pickle": put(WEIGHTS, pickle.dumps({"a": 1})),
    "a folder": folder(WEIGHTS),
    "a pipe": pipe(WEIGHTS),
}


def models() -> list[Case]:
    cases = [Case(f"model.json {name}", spoil, PREDICT, (r"run/model",)) for name, spoil in MODELS.items()]
    cases += [Case(f"weights {name}", spoil, PREDICT, (r"run/model",)) for name, spoil in WEIGHT_FILES.items()]

    def poison(place: Place) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(place.top / WEIGHTS)
        next(tensor for tensor in weights.values() if tensor.is_floating_point()).fill_(float("nan"))
        save_file(weights, place.top / WEIGHTS)

    cases.append(Case("weights of nan", poison, PREDICT, (r"run/model",)))
    cases.append(Case("predict with a dataset", lambda place: None, "predict {data} {photos} --out {out}", (r"model",)))
    cases.append(Case("predict nothing", lambda place: None, "predict {run} {top}/none --out {out}", (r"none",)))
    cases.append(Case("predict no pictures", lambda place: None, "predict {run} {run} --out {out}", (r"pictures",)))
    onto = put("out", b"")
    cases.append(Case("predict onto a file", onto, PREDICT, (r"out",)))
    return cases


# Reports --------------------------------------------------------------------------------------------------------------

RESULT, METRICS = "run/result.json", "run/metrics.jsonl"


def result(change: Callable[[dict], object]) -> Callable[[Place], object]:
    def edit(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return edited(RESULT, edit)


RESULTS: dict[str, Callable[[Place], object]] = {
    "text": put(RESULT, b"no result"),
    "empty": put(RESULT, b""),
    "a list": put(RESULT, b"[1]"),
    "bytes": put(RESULT, b"\xff\xfe\x80"),
    "nested": put(RESULT, b"[" * 200_000),
    "a pipe": pipe(RESULT),
    "without last": result(lambda document: document.pop("last")),
    "with last a number": result(lambda document: document.update(last=3)),
    "with seconds a word": result(lambda document: document.update(seconds="long")),
    "with split a list": result(lambda document: document.update(split=[1])),
}
RECORDS: dict[str, Callable[[Place], object]] = {
    "a line of a list": put(METRICS, b"[1, 2]\n"),
    "a line of a number": put(METRICS, b"3\n"),
    "a line without step": put(METRICS, b'{"kind": "train"}\n'),
    "a line without kind": put(METRICS, b'{"step": 2}\n'),
    "a step in words": put(METRICS, b'{"kind": "train", "step": "two", "lr": 1}\n'),
    "an evaluation of nothing": put(METRICS, b'{"kind": "evaluation", "step": 2}\n'),
    "a pipe": pipe(METRICS),
    "a folder": folder(METRICS),
}


def reports() -> list[Case]:
    cases = [Case(f"result.json {name}", spoil, REPORT, (r"result\.json",)) for name, spoil in RESULTS.items()]
    cases += [Case(f"record: {name}", spoil, REPORT, (r"metrics\.jsonl",)) for name, spoil in RECORDS.items()]
    config = "run/config.yaml"
    for name in ("no yaml", "a list", "a picture", "an unknown key", "aliases of aliases"):
        cases.append(Case(f"config {name}", put(config, RECIPES[name][0]), REPORT, (r"config\.yaml",)))
    cases.append(Case("config gone", gone(config), REPORT, (r"run", r"config\.yaml")))
    cases.append(Case("report of a dataset", lambda place: None, "report {data}", (r"data", r"run folder")))
    cases.append(Case("report of nothing", lambda place: None, "report {top}/nobody", (r"nobody",)))
    cases.append(Case("report of nothing at all", lambda place: None, "report {run} {top}/nobody", (r"nobody",)))
    return cases


# Shards ---------------------------------------------------------------------------------------------------------------

INDEX = "shards/index.safetensors"


def tar(edit: Callable[[bytes], bytes]) -> Callable[[Place], object]:
    def spoil(place: Place) -> None:
        path = next(iter(sorted(place.shards.glob("*.tar"))))
        path.write_bytes(edit(path.read_bytes()))

    return spoil


def no_tars(place: Place) -> None:
    for path in place.shards.glob("*.tar"):
        path.unlink()


def shards() -> list[Case]:
    table: dict[str, tuple[Callable[[Place], object], str]] = {
        "no index": (gone(INDEX), r"index"),
        "an index of text": (put(INDEX, b"no index, but more than eight bytes"), r"index"),
        "an empty index": (put(INDEX, b""), r"index"),
        "an index cut short": (edited(INDEX, lambda content: content[:-9]), r"index"),
        "an index that is a folder": (folder(INDEX), r"index"),
        "an index that is a pipe": (pipe(INDEX), r"index"),
        "a tar cut short": (tar(lambda content: content[:700]), r"\.tar"),
        "a tar that grew": (tar(lambda content: content + bytes(512)), r"\.tar"),
        "no tars": (no_tars, r"shards"),
        "another tar": (put("shards/zzz.tar", bytes(1024)), r"zzz\.tar"),
    }
    cases = [Case(f"shards: {name}", spoil, SHARDED, (says,)) for name, (spoil, says) in table.items()]
    index = "data index {shards}"
    tars: dict[str, bytes] = {
        "text": b"no tar at all\n" * 99,
        "empty": b"",
        "gzip": b"\x1f\x8b\x08" + bytes(99),
        "zeros": bytes(99),
    }
    for name, content in tars.items():
        cases.append(Case(f"index a tar of {name}", put("shards/zzz.tar", content), index, (r"zzz\.tar",)))
    cases.append(Case("index without tars", no_tars, index, (r"shards",)))
    cases.append(Case("index nothing", lambda place: None, "data index {top}/nobody", (r"nobody",)))
    for words, says in (
        ("{top}/nobody --out {out}", r"nobody"),
        ("{photos} --out {out} --shard-size=-5", r"shard.size"),
        ("{photos} --out {out} --shard-size=0", r"shard.size"),
        ("{photos} --out {out} --images=0", r"images"),
        ("{photos} --out {out} --images=-1", r"images"),
        ("{run}/checkpoints --out {out}", r"checkpoints"),
    ):
        cases.append(Case(f"shard {words}", lambda place: None, f"data shard {words}", (says,)))
    return cases


# Options and names ----------------------------------------------------------------------------------------------------

OPTIONS: tuple[tuple[str, str], ...] = (
    ("--seed 1.5", "seed"), ("--seed=-1", "seed"), ("--seed 18446744073709551616", "seed"), ("--seed one", "seed"),
    ("--train.steps 2.7", "steps"), ("--train.steps 0", "steps"), ("--train.steps=-3", "steps"),
    ("--train.steps nan", "steps"), ("--train.batch_labeled 0", "batch_labeled"), ("--train.workers=-1", "workers"),
    ("--train.threads 0", "threads"), ("--train.devices 0", "devices"), ("--train.device tpu", "device"),
    ("--train.device cuda:99", "cuda:99"), ("--train.precision fp16", "precision"), ("--train.stepz 3", "stepz"),
    ("--train.log_every 0", "log_every"), ("--train.accumulate 3", "accumulate"), ("--optim.lr nan", "lr"),
    ("--optim.lr inf", "lr"), ("--optim.lr 0", "lr"), ("--optim.lr=-1", "lr"), ("--optim.momentum 2", "momentum"),
    ("--optim.momentum nan", "momentum"), ("--optim.weight_decay nan", "weight_decay"), ("--optim.power inf", "power"),
    ("--optim.kind adam", "kind"), ("--augment.brightness=-0.5", "brightness"), ("--augment.hue 2", "hue"),
    ("--augment.flip 1.1", "flip"), ("--augment.flip nan", "flip"), ("--augment.scale_min 0", "scale_min"),
    ("--augment.scale_max inf", "scale_max"), ("--augment.crop_height 0", "crop"), ("--augment.crop_width 31", "crop"),
    ("--augment.saturation nan", "saturation"), ("--data.scale 0", "scale"), ("--data.scale nan", "scale"),
    ("--data.val_fraction 1", "val_fraction"), ("--data.labeled_count 0", "labeled_count"),
    ("--data.split nobody/voc/1", "split"), ("--data.dataset moon", "dataset"), ("--data.pad_label 3", "pad_label"),
    ("--network.channels 0", "channels"), ("--network.encoder magic", "magic"), ("--network.name magic", "magic"),
    ("--method magic", "magic"), ("--method.warmup 2", "warmup"), ("--method.warmup nan", "warmup"),
    ("--method.threshold=-1", "threshold"), ("--method.ema_decay 2", "ema_decay"),
    ("--prototypes.per_class 0", "per_class"),
    ("--preset magic", "preset"), ("--loss.ohem_threshold 0", "ohem"), ("--loss.aux_weight nan", "aux"),
    ("--evaluation.stride 0", "stride"), ("--evaluation.window 0", "window"), ("--evaluation.images 0", "images"),
    ("--evaluation.protocol half", "protocol"), ("--data.root", "data.root"), ("extra", "extra"),
)  # fmt: skip
COMMANDS: tuple[tuple[str, str], ...] = (
    ("trane folder", "trane"), ("train", "recipe"), ("train nobody", "nobody"), ("report", "run"),
    ("predict {run} {photos}", "out"), ("predict {run} {photos} --out {out} --stride 5", "window"),
    ("predict {run} {photos} --out {out} --window 0", "window"),
    ("predict {run} {photos} --out {out} --window=-8", "window"),
    ("predict {run} {photos} --out {out} --window 32 --stride 0", "stride"),
    ("predict {run} {photos} --out {out} --window 32 --stride=-4", "stride"),
    ("predict {run} {photos} --out {out} --window 32 --stride 64", "stride"),
    ("evaluate {run} --checkpoint middle", "middle"), ("evaluate {run} --set train", "set"),
    ("evaluate {run} --set test", "test"), ("evaluate {run} --evaluation.window 0", "window"),
    ("evaluate {run} --data.root {top}/nobody", "nobody"), ("estimate {recipe} --device abacus", "abacus"),
    ("train {recipe} --data.root {top}/nobody --run {new}", "nobody"),
    ("train {recipe} --data.root {recipe} --run {new}", "recipe"),
    ("train {recipe} --data.root {data} --run {recipe}", "recipe"),
    ("selftest faults --rounds 0", "rounds"), ("selftest faults --kinds magic", "magic"),
)  # fmt: skip


def options() -> list[Case]:
    cases = [Case(f"train {words}", lambda place: None, f"{TRAIN} {words}", (says,)) for words, says in OPTIONS]
    cases.append(Case("an empty run folder", lambda place: None, "train {recipe} --data.root {data} --run=", (r"run",)))
    return cases + [Case(words, lambda place: None, words, (says,)) for words, says in COMMANDS]


def names() -> list[Case]:
    def twins(place: Place) -> None:
        for name in ("u0.jpg", "l0.tif"):
            Image.fromarray(noise(1)).save(place.data / "images" / name)

    def photo_twins(place: Place) -> None:
        Image.fromarray(noise(1)).save(place.photos / "a.jpg")

    def not_utf8(place: Place) -> None:
        (place.data / "images/u0.png").rename(os.fsdecode(os.fsencode(place.data / "images") + b"/u\xff\xfe.png"))

    def listed_decomposed(place: Place) -> None:
        for folder in ("images", "masks"):
            (place.data / folder / "l0.png").rename(place.data / folder / "gr\u00fcn.png")
        (place.data / "labeled.txt").write_text("gru\u0308n\nl1\n", "utf-8")

    def no_images(place: Place) -> None:
        for path in (place.data / "images").iterdir():
            path.unlink()

    def line_break(place: Place) -> None:
        (place.data / "images/u0.png").rename(place.data / "images/u\n0.png")

    def hostile(place: Place) -> None:
        (place.data / "images/u0.png").rename(place.data / "images/<script>alert(1)<\u2028img src=x>.png")

    return [
        Case("two images of one name", twins, TRAIN, (r"(u0|l0)\.\w+ and ", r"Rename|rename")),
        Case("predict two images of one name", photo_twins, PREDICT, (r"a\.jpg", r"rename")),
        Case("a name that is no utf-8", not_utf8, TRAIN, (), (0, 2)),
        Case("a list in another normal form", listed_decomposed, TRAIN, (), (0,)),
        Case("no images", no_images, TRAIN, (r"images",)),
        Case("a line break in a name", line_break, TRAIN, (), (0, 2)),
        Case("markup in a name", hostile, TRAIN, (), (0, 2)),
    ]  # fmt: skip


GROUPS: dict[str, Callable[[], list[Case]]] = {
    "pictures": pictures,
    "masks": masks,
    "lists": lists,
    "classes": class_files,
    "recipes": recipes,
    "checkpoints": checkpoints,
    "models": models,
    "reports": reports,
    "shards": shards,
    "options": options,
    "names": names,
}
"""Cases by what is spoiled."""
CASES = [case for made in GROUPS.values() for case in made()]
