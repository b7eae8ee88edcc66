"""The command: which benchmarks run, and what becomes of their tables."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

from semiseg.bench.data import bench_data
from semiseg.bench.estimate import bench_estimate
from semiseg.bench.evaluate import bench_evaluate
from semiseg.bench.options import bench_options
from semiseg.bench.prototypes import bench_prototypes
from semiseg.bench.start import bench_start
from semiseg.bench.step import bench_step
from semiseg.bench.table import Table
from semiseg.checkpoint import write_atomically
from semiseg.provenance import provenance

BENCHMARKS: dict[str, Callable[[torch.device, int], Iterable[Table]]] = {
    "step": bench_step,
    "options": bench_options,
    "estimate": bench_estimate,
    "prototypes": bench_prototypes,
    "data": lambda _, repeats: bench_data(repeats),
    "evaluate": bench_evaluate,
    "start": lambda _, repeats: bench_start(repeats),
}


def run(names: Sequence[str], out: Path, device: torch.device, repeats: int, console: Console | None = None) -> None:
    """Run the benchmarks `names`, print their tables and write them to `out` with where they come from."""
    console = console or Console()
    document: dict[str, Any] = {"provenance": provenance(device), "repeats": repeats, "tables": []}
    for name in names:
        began = time.monotonic()
        for table in BENCHMARKS[name](device, repeats):
            show(table, console)
            document["tables"].append({"benchmark": name, **vars(table)})
        console.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim")
    text = json.dumps(document, indent=1)
    write_atomically(out, lambda file: file.write(text.encode()))


def show(table: Table, console: Console) -> None:
    """Print a table, its note below it."""
    drawn = RichTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
    for column in table.rows[0]:
        drawn.add_column(column, justify="left" if isinstance(table.rows[0][column], str) else "right")
    for row in table.rows:
        drawn.add_row(*map(str, row.values()))
    console.print(drawn)
