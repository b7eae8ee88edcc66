"""Coverage-guided fuzzing of what is read: pictures and masks, lists and classes, recipes, models.

    uv run --group fuzz python benchmarks/fuzz.py all --minutes 10 --out fuzz

Inputs that reach new lines are kept in OUT/TARGET/corpus, and a later call goes on from there. A reader may raise
ValueError of its own that names the file. Everything else is a finding, as are a second answer that contradicts the
first, and more than SLOW seconds: OUT/TARGET/findings has its input and its traceback, one of each kind. The exit
status is 1 where there is one. Needs atheris, which has wheels for Linux and Python 3.11 to 3.13.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SLOW = 10.0  # seconds for one input
MEMORY = 4096  # MB
INSTRUMENTED = [
    "semiseg.config",
    "semiseg.data",
    "semiseg.evaluation",
    "semiseg.networks",
    "PIL",
    "yaml",
    "safetensors",
]
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")

Reader = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """What is fuzzed: `reader` makes the reader of an input in a folder of its own, `seeds` the first inputs."""

    reader: Callable[[Path], Reader]
    seeds: Callable[[], list[bytes]]


# Pictures: the first byte chooses the suffix --------------------------------------------------------------------------


def picture_reader(folder: Path) -> Reader:
    """Reads the input as a photograph and as its mask; the size in the header must be the size of the pixels."""
    from semiseg.data.images import image_size, read_image
    from semiseg.data.masks import MaskReader

    colors = ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    readers = [MaskReader(("a", "b", "c")), MaskReader(("a", "b", "c"), colors), MaskReader(("a", "b"), binary=True)]

    def read(content: bytes) -> None:
        path = folder / f"picture{SUFFIXES[content[0] % len(SUFFIXES)] if content else '.png'}"
        path.write_bytes(content[1:])
        for reader in readers:
            with contextlib.suppress(ValueError):
                reader.read(path, path)
        pixels = read_image(path)
        if image_size(path) != pixels.shape[:2] or (read_image(folder / "name", content[1:]) != pixels).any():
            raise AssertionError(f"{pixels.shape} is read, {image_size(path)} in the header")

    return read


def picture_seeds() -> list[bytes]:
    """Small pictures of every format and mode, also turned, with pages, and with a palette."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
    color, turned = Image.fromarray(pixels[..., :3]), Image.Exif()
    turned[0x0112] = 6
    images = [color, *(color.convert(mode) for mode in ("L", "P", "1", "RGBA", "LA", "I", "F", "CMYK", "I;16"))]
    images += [Image.fromarray(pixels[..., 0] % 3)]
    seeds = []
    for image in images:
        for number, kind in enumerate(("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")):
            for options in ({}, {"exif": turned}, {"save_all": True, "append_images": [image]}):
                file = io.BytesIO()
                try:
                    image.save(file, kind, **options)
                except (OSError, ValueError, KeyError):  # this format has no such mode
                    continue
                seeds.append(bytes([number % len(SUFFIXES)]) + file.getvalue())
    return seeds


# Lists and classes: the first byte chooses ----------------------------------------------------------------------------


def list_reader(folder: Path) -> Reader:
    """Reads the input as a list of images, as a benchmark's list, or as classes.txt."""
    from semiseg.data.listing import listed_ids
    from semiseg.data.sets.folder import read_classes
    from semiseg.data.splits import listed_images

    path, endings = folder / "list.txt", {"a": ".png", "b/a": ".jpg", "grün": ".png", "x.y": ".tif", "#1": ".png"}
    readers = (read_classes, listed_images, lambda path: listed_ids(path, folder / "images", endings))

    def read(content: bytes) -> None:
        path.write_bytes(content[1:])
        readers[content[0] % 3 if content else 0](path)

    return read


def list_seeds() -> list[bytes]:
    """Sound and odd lists."""
    texts = [
        "a\nb/a\ngrün\n",
        "images/a.png\r\n./x.y.tif\n",
        "# no\n#1\n\n",
        "road 1 2 3\nignore 0 0 0\nsky 4 5 6\n",
        "a b c\nd\n",
    ]
    encodings = ("utf-8", "utf-8-sig", "utf-16", "latin-1")
    return [bytes([kind]) + text.encode(encoding) for kind in range(3) for text in texts for encoding in encodings]


# Recipes --------------------------------------------------------------------------------------------------------------


def recipe_reader(folder: Path) -> Reader:
    """Reads the input as a recipe; what was read must be the same after it was written."""
    from semiseg.config.recipe import config_from_dict, config_to_dict, load_config

    path = folder / "recipe.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        config = load_config(path)
        if config_from_dict(config_to_dict(config)) != config:
            raise AssertionError("written and read again, the recipe is another")

    return read


def recipe_seeds() -> list[bytes]:
    """The shipped recipes without comments, and fragments."""
    import yaml

    from semiseg.config.recipe import RECIPES

    shipped = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(RECIPES.glob("*.yaml"))]
    parts = [{key: value} for recipe in shipped for key, value in recipe.items()]
    odd = [b"a: &a [1, *a]\n", b"method: {name: cutmix, warmup: 0.5}\n", b"train: {steps: 1e3}\n", b"seed: 0x10\n"]
    return [*odd, *(yaml.safe_dump(part, sort_keys=False).encode() for part in [*shipped, *parts])]


# Models: the first byte chooses which of the two files ----------------------------------------------------------------


def _model(folder: Path) -> tuple[bytes, bytes]:
    """model.json and model.safetensors of an untrained model that is written into `folder`."""
    from semiseg.config.recipe import load_config
    from semiseg.data import open_dataset
    from semiseg.evaluation.model import DESCRIPTION, WEIGHTS, save_model
    from semiseg.training.experiment import build_method

    options = {"network.encoder": "test_resnet", "network.channels": 8, "data.scenes.labeled": 2}
    config = load_config("demo", options)
    dataset = open_dataset(config.data)
    save_model(folder, build_method(config, dataset.classes).predictor, config, dataset)
    return (folder / DESCRIPTION).read_bytes(), (folder / WEIGHTS).read_bytes()


def model_reader(folder: Path) -> Reader:
    """Reads the input as model.json, or as the header of the weights."""
    from semiseg.evaluation.model import DESCRIPTION, WEIGHTS, load_model

    os.environ["HF_HUB_OFFLINE"] = "1"
    about, weights = _model(folder)
    tensors = weights[8 + int.from_bytes(weights[:8], "little") :]

    def read(content: bytes) -> None:
        described = not content or content[0] % 2 == 0
        rest = content[1:]
        (folder / DESCRIPTION).write_bytes(rest if described else about)
        (folder / WEIGHTS).write_bytes(weights if described else len(rest).to_bytes(8, "little") + rest + tensors)
        load_model(folder)

    return read


def model_seeds() -> list[bytes]:
    """Both as they are, model.json in one line, and its parts left out."""
    with tempfile.TemporaryDirectory() as folder:
        about, weights = _model(Path(folder))
    document = json.loads(about)
    less = [{key: value for key, value in document.items() if key != left} for left in document]
    header = weights[8 : 8 + int.from_bytes(weights[:8], "little")]
    return [b"\0" + json.dumps(each).encode() for each in (document, *less)] + [b"\1" + header]


WORDS = {
    "pictures": ("IHDR", "IDAT", "PLTE", "tRNS", "acTL", "eXIf", "Exif\\x00\\x00"),
    "lists": ("ignore", "images/", "\\xef\\xbb\\xbf", " 255 255 255", "\\xe2\\x80\\xa8"),
    "recipes": ("!!", "&a", "*a", "<<: ", ".nan", ".inf", "null", "? ", "- ", "1e999"),
    "models": ("null", "NaN", "Infinity", "-1", "1e999", "[]", "{}", '\\"dtype\\"', "F64"),
}
"""What mutations put in, as libFuzzer writes it."""
TARGETS = {
    "pictures": Target(picture_reader, picture_seeds),
    "lists": Target(list_reader, list_seeds),
    "recipes": Target(recipe_reader, recipe_seeds),
    "models": Target(model_reader, model_seeds),
}


# Running --------------------------------------------------------------------------------------------------------------


def is_answer(error: Exception, folder: Path) -> bool:
    """Whether an error is the package's own word on a file in `folder`, which the command line prints as one line."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    own = last.f_globals.get("__name__", "").startswith("semiseg.")
    return isinstance(error, ValueError) and own and str(folder) in str(error)


def check(reader: Reader, content: bytes, folder: Path, findings: Path) -> str | None:
    """Read one input in `folder`; what is wrong is saved once for each place in the code, and given as a line."""
    began = time.monotonic()
    try:
        reader(content)
        wrong, place = None, ""
    except Exception as error:
        place = traceback.format_exc()
        wrong = None if is_answer(error, folder) else f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - began
    if wrong is None and seconds > SLOW:
        wrong = f"slow: {seconds:.0f} s for one input"
    if wrong is None:
        return None
    frames = re.findall(r'File "(.*?)", line (\d+)', place)
    name = f"{wrong.partition(':')[0].replace(' ', '-')}-{hashlib.sha256(str(frames[-2:]).encode()).hexdigest()[:8]}"
    findings.mkdir(parents=True, exist_ok=True)
    if (findings / f"{name}.bin").exists():
        return None
    (findings / f"{name}.bin").write_bytes(content)
    (findings / f"{name}.txt").write_text(f"{wrong}\n\n{place}", "utf-8", errors="backslashreplace")
    return f"{findings / name}.bin: {wrong[:200]}"


def fuzz_here(name: str, seconds: int, out: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from PIL import Image

        Image.init()  # else the formats are imported later, and not instrumented
        import semiseg.data.masks
        import semiseg.data.sets.folder
        import semiseg.evaluation.model
        import semiseg.training.experiment  # noqa: F401
    target, folder, corpus = TARGETS[name], Path(tempfile.mkdtemp()), out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for content in target.seeds():
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in WORDS[name]))
    place = folder / "place"
    place.mkdir()
    reader = target.reader(place)
    (out / "findings").mkdir(exist_ok=True)

    def one(content: bytes) -> None:
        found = check(reader, content, place, out / "findings")
        if found is not None:
            print(f"finding: {found}", flush=True)

    limits = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY}",
        "-timeout=120",
        "-report_slow_units=120",
        "-max_len=20000",
    ]
    files = [f"-dict={words}", f"-artifact_prefix={out / 'findings'}/", str(corpus)]
    atheris.Setup(["fuzz", *limits, "-print_final_stats=1", *files], one)
    atheris.Fuzz()


def fuzz(name: str, seconds: int, out: Path) -> list[str]:
    """Fuzz one target in a process of its own, and tell how much was tried; the findings' files."""
    words = [sys.executable, __file__, name, "--minutes", str(seconds / 60), "--out", str(out), "--here"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    tried = re.search(r"number_of_executed_units: (\d+)", text)
    cover = re.findall(r"cov: (\d+)", text) or ["?"]
    if tried is None:
        print(text[-2000:])
    findings = sorted(str(path) for path in (out / name / "findings").glob("*") if path.suffix != ".txt")
    inputs = "it ended early" if tried is None else f"{int(tried[1]):,} inputs"
    print(f"{name}: {seconds} s, {inputs}, {cover[-1]} places reached, {len(findings)} findings")
    for path in findings:
        told = Path(path).with_suffix(".txt")
        print(f"  {path}: {told.read_text('utf-8').splitlines()[0][:200] if told.exists() else 'a crash or a hang'}")
    return findings


def main() -> None:
    """Fuzz the targets named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if find_spec("atheris") is None:
        sys.exit("atheris is not installed: uv run --group fuzz python benchmarks/fuzz.py ...")
    seconds = max(1, round(asked.minutes * 60))
    if asked.here:
        fuzz_here(asked.target, seconds, asked.out / asked.target)
        return
    names = list(TARGETS) if asked.target == "all" else [asked.target]
    found = [path for name in names for path in fuzz(name, seconds, asked.out)]
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
