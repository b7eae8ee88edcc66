"""The command: which benchmarks run, and what becomes of their tables."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

from semiseg.config.checks import Range, check_value, require
from semiseg.config.layers import flatten
from semiseg.costs.bench.data import bench_data
from semiseg.costs.bench.estimate import bench_estimate
from semiseg.costs.bench.evaluate import bench_evaluate
from semiseg.costs.bench.large import bench_large
from semiseg.costs.bench.options import bench_options
from semiseg.costs.bench.prototypes import bench_prototypes
from semiseg.costs.bench.start import bench_start
from semiseg.costs.bench.step import bench_step
from semiseg.costs.bench.table import Table
from semiseg.runtime.files import write_atomically
from semiseg.runtime.provenance import provenance

BENCHMARKS: dict[str, Callable[[torch.device, int], Iterable[Table]]] = {
    "prototypes": bench_prototypes,  # the first: it takes as many images as free memory holds
    "step": bench_step,
    "options": bench_options,
    "estimate": bench_estimate,
    "data": lambda _, repeats: chain(bench_data(repeats), bench_large(repeats)),
    "evaluate": bench_evaluate,
    "start": lambda _, repeats: bench_start(repeats),
}


def run(names: Sequence[str], out: Path, device: torch.device, repeats: int, console: Console | None = None) -> None:
    """Run the benchmarks `names`, print their tables and write them to `out` with where they come from.

    Beside `out`, as JSON, the same in Markdown, to be read. Both are written anew after every table: what was measured
    before an interruption stays. Raises ValueError where the two would be one file.
    """
    wrong = f"--out {out} is for the JSON, the Markdown goes beside it: choose a name that ends in .json"
    require(out.suffix != ".md", wrong)
    check_value("--repeats", repeats, Annotated[int, Range(1, 1000)])
    console = console or Console()
    document: dict[str, Any] = {
        "command": shlex.join(["semiseg", *sys.argv[1:]]),
        "provenance": provenance(device),
        "repeats": repeats,
        "seconds": {},
        "tables": [],
    }
    for name in names:
        began = time.monotonic()
        for table in BENCHMARKS[name](device, repeats):
            show(table, console)
            document["tables"].append({"benchmark": name, **vars(table)})
            document["seconds"][name] = round(time.monotonic() - began)
            write_atomically(out, lambda file: file.write(json.dumps(document, indent=1).encode()))
            write_atomically(out.with_suffix(".md"), lambda file: file.write(as_markdown(document).encode()))
        console.print(f"{name}: {document['seconds'][name]} s", style="dim")


def as_markdown(document: Mapping[str, Any]) -> str:
    """The document that `run` wrote as JSON, to be read."""
    found = flatten(document["provenance"]).items()
    where = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in found)
    seconds = ", ".join(f"{name} {spent} s" for name, spent in document["seconds"].items())
    lines = ["# What the package costs", "", f"    {document['command']}", "", where + ".", "", f"It took: {seconds}."]
    for table in document["tables"]:
        first = table["rows"][0]
        rulers = ["---" if isinstance(value, str) else "---:" for value in first.values()]
        rows = [list(first), rulers, *(map(str, row.values()) for row in table["rows"])]
        drawn = [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", f"## {table['title']}", "", *drawn, *(["", table["note"]] if table["note"] else [])]
    return "\n".join(lines) + "\n"


def show(table: Table, console: Console) -> None:
    """Print a table, its note below it."""
    drawn = RichTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
    for number, column in enumerate(table.rows[0]):
        justify = "left" if isinstance(table.rows[0][column], str) else "right"
        drawn.add_column(column, justify=justify, no_wrap=number == 0)  # a name is read whole, on a narrow screen too
    for row in table.rows:
        drawn.add_row(*map(str, row.values()))
    console.print(drawn)
