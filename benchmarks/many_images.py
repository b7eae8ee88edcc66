"""What very many unlabelled images cost beyond `semiseg bench start`, which forks its workers and reads files.

    python benchmarks/many_images.py FOLDER COUNT [SHARDS]

Makes a dataset in FOLDER where there is none: COUNT names of small pictures without masks, and ten with. Prints the
seconds until it is open, and by how much the memory of loading processes grows, forked and spawned. SHARDS is a folder
of shards of the same pictures, to read them from.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from semiseg.config.options import DataOptions
from semiseg.costs.bench.pictures import write_many_names
from semiseg.costs.bench.workers import worker_growth
from semiseg.data import open_dataset


def main(root: Path, count: int, shards: Path | None = None) -> None:
    if not root.exists():
        write_many_names(root, count)
    began, worked = time.monotonic(), time.process_time()
    images = open_dataset(DataOptions(root=root, unlabeled_shards=shards)).unlabeled
    seconds, cpu = time.monotonic() - began, time.process_time() - worked
    print(f"{len(images)} images open in {seconds:.1f} s ({cpu:.1f} s of one CPU)")
    for start in ("fork", "spawn"):
        for grown in worker_growth(images, start):
            print(f"{start}: USS {grown.uss:+.1f} MB, of that written {grown.written:.1f}; PSS {grown.pss:+.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
