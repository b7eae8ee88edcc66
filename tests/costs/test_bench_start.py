"""Seconds and memory of a start are what they are said to be."""

import numpy as np
import pytest

from semiseg.config.options import DataOptions
from semiseg.costs.bench import start
from semiseg.costs.bench.pictures import write_many_names
from semiseg.costs.bench.start import bench_start
from semiseg.costs.bench.workers import MEMORY, worker_growth
from semiseg.data import open_dataset

needs_proc = pytest.mark.skipif(not MEMORY.exists(), reason="this system does not tell a process's memory")


@needs_proc
def test_the_start_is_measured_in_the_units_of_its_targets(monkeypatch):
    monkeypatch.setattr(start, "FILES", 50)
    monkeypatch.setattr(start, "_training", lambda repeats: [])  # in test_bench_large
    monkeypatch.setattr(start, "_imports", lambda repeats: start._row("imports", "x", 1.0, 1.3))
    (table,) = bench_start(1)
    assert [row["unit"] for row in table.rows] == ["s", "x", "s", "MB", "MB"]
    help_, _, opened, uss, pss = (row["measured"] for row in table.rows)
    assert 0.05 < help_ < 60  # a process with Python and the package in it
    assert opened < help_  # fifty files
    assert max(uss, pss) < 15


def test_many_names_share_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr("semiseg.costs.bench.pictures.LINKS", 4)
    write_many_names(tmp_path / "many", 9)
    images = open_dataset(DataOptions(root=tmp_path / "many")).unlabeled
    assert len(images) == 9
    assert images.image(8).shape == (64, 64, 3)
    assert len({(tmp_path / f"many/images/photo-{number:07}.jpg").stat().st_ino for number in range(9)}) == 3


class Hoarder:
    """Images of which each that is read leaves `kept` bytes with the process that read it."""

    name = "unlabeled"
    names = ("one", "two")

    def __init__(self, kept: int) -> None:
        self.kept, self.held = kept, []

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        self.held.append(np.ones(self.kept, np.uint8))
        return self.held[-1]


@needs_proc
def test_growth_is_what_a_worker_keeps():
    # Python counts references in what the worker shares with its parent: the more, the larger the parent is.
    counted = max(each.uss for each in worker_growth(Hoarder(0)))
    assert counted < 15
    grown = worker_growth(Hoarder(20_000))  # of each of 2000 pictures
    assert [each.uss - counted for each in grown] == pytest.approx([40, 40], rel=0.2)
    assert all(
        20 < each.pss < 48 + counted for each in grown
    )  # the parent's memory that is written to is shared no longer
