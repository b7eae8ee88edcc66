"""What very many unlabelled images cost: python benchmarks/many_images.py FOLDER COUNT [SHARDS]

Makes a dataset in FOLDER where there is none: COUNT small pictures without masks, and ten with. Prints the seconds
until it is open, and by how much the memory of two loading processes grows while each reads a path and a name 200,000
times, and 2,000 pictures, at random. SHARDS is a folder of shards of the same pictures, to read them from.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data import open_dataset
from semiseg.data.dataset import ImageSet
from semiseg.options import DataOptions

WALKS, PICTURES = 200_000, 2000
LINKS = 60_000  # names that one file may have, less a few


def make(root: Path, count: int) -> None:
    """Names are what counts here, so many names share a file."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(10):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(root / f"images/labeled-{number}.jpg")
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (40, 40))).save(root / f"masks/labeled-{number}.png")
    for number in range(count):
        if number % LINKS == 0:
            picture = root / f"picture-{number}.jpg"
            Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(picture)
        os.link(picture, root / f"images/photo-{number:07d}.jpg")


def memory() -> dict[str, int]:
    """Of this process, in kB: what it holds alone (`Private_Dirty`, ...), and its share of what it holds (`Pss`)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def walk(images: ImageSet, seed: int, together: Barrier, found: Queue) -> None:
    """Read at random; put the growth in MB of what is private, of that what was written, and of the proportional."""
    rng = random.Random(seed)
    images.image(0)
    together.wait()  # what one process alone still holds counts for it alone
    before = memory()
    for number in range(WALKS):
        place = rng.randrange(len(images))
        assert images.names[place]
        if number % (WALKS // PICTURES) == 0:
            images.image(place)
    together.wait()
    after = memory()
    together.wait()
    growth = {key: (after[key] - before[key]) / 1000 for key in after}
    found.put((growth["Private_Clean"] + growth["Private_Dirty"], growth["Private_Dirty"], growth["Pss"]))


def main(root: Path, count: int, shards: Path | None = None) -> None:
    if not root.exists():
        make(root, count)
    began, worked = time.monotonic(), time.process_time()
    options = DataOptions(root=root) if shards is None else DataOptions(root=root, unlabeled_shards=shards)
    images = open_dataset(options).unlabeled
    seconds, cpu = time.monotonic() - began, time.process_time() - worked
    print(f"{len(images)} images open in {seconds:.1f} s ({cpu:.1f} s of one CPU)")
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        found, together = context.Queue(), context.Barrier(2)
        children = [context.Process(target=walk, args=(images, seed, together, found)) for seed in range(2)]
        for child in children:
            child.start()
        for uss, dirty, pss in [found.get() for _ in children]:
            print(f"{method}: USS {uss:+.1f} MB, of that written {dirty:.1f}; PSS {pss:+.1f} MB")
        for child in children:
            child.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
