"""How near `semiseg predict` comes to the bare network passes over the same windows, and the memory it takes.

    python benchmarks/predict.py RUN --side 4000 --pictures 100

Both are measured in one process, in turns; the peak of memory in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from semiseg.config.options import SceneOptions
from semiseg.config.predicting import PredictOptions
from semiseg.data.sets.scenes import draw_scene
from semiseg.evaluation.model import Model, load_model
from semiseg.evaluation.native import small_size
from semiseg.evaluation.pipeline import CHUNK
from semiseg.evaluation.segment import AT_ONCE, predict_images
from semiseg.evaluation.windows import Windows
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.timing import timed

SMALL = (360, 480)
PEAK = (
    "import sys, resource; from pathlib import Path; from semiseg.evaluation.segment import predict_images; "
    "predict_images(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)


def draw(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Drawn scenes with grain, tiled to `size`."""
    folder.mkdir()
    tiles = [draw_scene(SceneOptions(height=180, width=240), "unlabeled", number).image for number in range(12)]
    rng = np.random.default_rng(0)
    for number in range(count):
        across = -(-size[1] // 240)
        picture = Image.new("RGB", size[::-1])
        for top in range(0, size[0], 180):
            strip = np.concatenate([tiles[rng.integers(12)] for _ in range(across)], 1)
            noisy = (strip + rng.normal(0, 6, strip.shape)).clip(0, 255).astype(np.uint8)
            picture.paste(Image.fromarray(noisy), (0, top))
        picture.save(folder / f"{number:04}.jpg", quality=90)


def bare(model: Model, count: int, size: tuple[int, int]) -> None:
    """The network's passes over the windows, or batches, of such pictures, on noise."""
    options = model.windows(PredictOptions(), size)
    height, width = small_size(*size, model.scale)
    forward = model.forward(PredictOptions())
    if options.protocol == "slide":
        windows = Windows(height, width, options.window, options.stride).count * count
        shape, batches = (min(options.window, height), min(options.window, width)), [options.windows_at_once] * windows
        batches = batches[: windows // options.windows_at_once]
    else:
        shape, together = (height, width), max(1, min(CHUNK, AT_ONCE[model.device.type] // (size[0] * size[1])))
        chunks = [CHUNK] * (count // CHUNK) + [count % CHUNK]
        batches = [min(together, chunk - first) for chunk in chunks for first in range(0, chunk, together)]
    with torch.inference_mode():
        for batch in batches:
            forward(torch.randn(batch, 3, *shape, device=model.device))


def measure(run: Path, model: Model, folder: Path, out: Path) -> tuple[float, float]:
    """Seconds of the bare passes, and of `predict` with reading and writing, of the pictures in a folder."""
    pictures = sorted(folder.iterdir())
    with Image.open(pictures[0]) as first:
        size = first.size[::-1]
    device, quiet = model.device, Console(quiet=True)
    began = time.process_time()
    passes = timed(lambda: bare(model, len(pictures), size), device)
    between = time.process_time()
    whole = timed(lambda: predict_images(run, folder, out, model=model, device=str(device), console=quiet), device)
    print(
        f"  bare {passes:.1f} s ({between - began:.1f} s of CPU), predict {whole:.1f} s "
        f"({time.process_time() - between:.1f} s of CPU)",
        flush=True,
    )
    return passes, whole


def main() -> None:
    """Print the ratio and the peak for many small pictures and for a large one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--side", type=int, default=12_000, help="of the large picture, pixels")
    parser.add_argument("--pictures", type=int, default=1000, help="small ones")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    model = load_model(asked.run).to(pick_device(asked.device))
    bare(model, 1, SMALL)
    with tempfile.TemporaryDirectory() as name:
        for count, size in ((asked.pictures, SMALL), (1, (asked.side, asked.side))):
            folder = Path(name) / f"{count}"
            draw(folder, count, size)
            rounds = [measure(asked.run, model, folder, Path(name) / f"out-{count}-{n}") for n in range(asked.repeats)]
            passes, whole = map(min, zip(*rounds, strict=True))
            speed = count * size[0] * size[1] / 1e6 / whole
            print(f"{count} of {size[0]}x{size[1]}: {speed:.2f} Mpixel/s, {passes / whole:.3f} of bare passes")
        command = [sys.executable, "-c", PEAK, str(asked.run), str(folder), f"{name}/peak"]
        print("peak", subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1], "MB")


if __name__ == "__main__":
    main()
