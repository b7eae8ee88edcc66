"""The commands: each calls one function of the package and prints. Their docstrings are the command line's help.

Commands that compute import torch inside, so that `--help` answers at once.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import load_config, shipped_recipes
from semiseg.runtime.screen import printable


def compare(
    recipe: str,
    /,
    *,
    methods: str = "all",
    labeled: str | None = None,
    seeds: str = "0",
    out: Path | None = None,
    jobs: int | None = None,
    **options: Any,
) -> None:
    """Hold methods against supervised-only training: same labelled batches, same steps, one table.

    Runs what is not yet done, so that a stopped comparison goes on with the same command. Options of `train` are for
    all runs; a method takes those `method.*` that it has, and `prototypes.*` go to the methods that have
    prototypes by default or, with `--prototypes true`, to all that can. `--help-all` lists every option.

    Parameters
    ----------
    recipe
        A shipped recipe, or a YAML file.
    methods
        Names with commas between them, or all; supervised is always added.
    labeled
        Sets of labelled images with commas between them: a list file; N for DATA/splits/N/labeled.txt; the name of a
        published split, or the end of it. Default: the recipe's.
    seeds
        Whole numbers with commas between them.
    out
        Folder for the runs and compare.html, .md and .json. Default: runs/compare-RECIPE.
    jobs
        Runs at a time. Default: one on each GPU, or one on the CPU, whose threads several share.
    """
    from semiseg.studies import asked, comparison

    made = comparison.make_comparison(recipe, methods, labeled, seeds, out, options)  # mistakes first, then torch
    asked.check_jobs(jobs)
    from semiseg.studies import run

    run.require_all(run.run_study(made, jobs))


def estimate(recipe: str, /, *, device: str = "here", **options: Any) -> None:
    """Tell what a recipe costs before it is run: operations, memory, hours.

    Takes the options of `train`; `--help-all` lists every one.

    Parameters
    ----------
    recipe
        A shipped recipe, or a YAML file.
    device
        `here`, which is measured for a second, or h200, h100, a100, l4, rtx4090.
    """
    config = load_config(recipe, options)
    from semiseg.costs import estimate

    for key, value in estimate.estimate(config, device).items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")


def demo(*, out: Path = Path("runs/demo"), steps: int | None = None, seed: int = 0) -> None:
    """Train with and without unlabelled images on drawn scenes, and compare: no download, no GPU.

    Parameters
    ----------
    out
        Folder for the runs and the report; a stopped demo goes on there.
    steps
        Optimizer steps per method. Default: the recipe's.
    seed
        Of all randomness.
    """
    from semiseg.studies import demo

    demo.demo(out, steps, seed)


def report(run: Path, /, *others: Path, out: Path | None = None) -> None:
    """Write the report of a run, finished or not, or of runs against the first.

    Parameters
    ----------
    run
        The run folder; where there are more, the baseline.
    others
        Run folders to hold against it.
    out
        The file. Default: report.html in the run folder.
    """
    from semiseg import report
    from semiseg.training.record import PLAN

    if not others and out is None and (run / PLAN).is_file():
        from semiseg.studies.own.page import write_page

        print(printable(write_page(run)))
    elif not others and out is None:
        print(printable(report.write_report(run)))
    else:
        words = report.summary([run, *others])
        print(printable(words, "\n"))
        page = report.write_comparison([run, *others], out or run / "comparison.html", "Comparison", words)
        print(printable(page))


def bench(
    what: Literal["all", "prototypes", "step", "options", "estimate", "data", "evaluate", "start"] = "all",
    /,
    *,
    out: Path = Path("bench.json"),
    device: str = "auto",
    repeats: int = 5,
) -> None:
    """Measure what the package costs on this machine, side by side with what it could cost.

    Parameters
    ----------
    what
        `step`: a training step over its network passes. `options`: a step by memory layout, and compiled. `estimate`:
        what `semiseg estimate` says, against what is. `prototypes`: the sampled head. `data`: the weak view.
        `evaluate`: windows, counting, the K-means start. `start`: the help, and a million files.
    out
        JSON file for the tables; beside it they are written as Markdown.
    device
        `auto`, `cpu` or `cuda:N`.
    repeats
        Rounds whose median counts.
    """
    from semiseg.costs import bench
    from semiseg.runtime import distributed

    bench.run(list(bench.BENCHMARKS) if what == "all" else [what], out, distributed.pick_device(device), repeats)


def shard(
    source: Path, /, *, out: Path, root: Path | None = None, shard_size: int | None = None, images: int | None = None
) -> None:
    """Write unlabelled images as tar shards with an index, for --data.unlabeled_shards; a stopped one goes on.

    Parameters
    ----------
    source
        A dataset's folder (its images/ without masks), a folder of images, or a list file.
    out
        Folder for the shards.
    root
        Folder whose images a list names. Default: the list's own folder.
    shard_size
        Bytes per shard, about. Default: a gigabyte.
    images
        Images per shard, instead.
    """
    from semiseg.data.shards import write as sharding

    _print_shards(out, len(sharding.write_shards(source, out, root=root, shard_size=shard_size, images=images)))


def index(folder: Path, /) -> None:
    """Index tar shards, whoever made them, for --data.unlabeled_shards.

    Parameters
    ----------
    folder
        The folder of the .tar files.
    """
    from semiseg.data.shards import index as indexing

    _print_shards(folder, len(indexing.index_shards(folder)))


def _print_shards(folder: Path, count: int) -> None:
    where = printable(folder)
    print(f"{count} images in {where}; train with --data.unlabeled_shards {shlex.quote(where)}")


def methods() -> None:
    """List the methods."""
    _print_table({name: (options.__doc__ or "").partition("\n")[0] for name, options in METHOD_OPTIONS.items()})


def recipes() -> None:
    """List the recipes."""
    _print_table(shipped_recipes())


def _print_table(rows: Mapping[str, str]) -> None:
    for name, text in rows.items():
        print(f"{name:<{max(map(len, rows))}}  {text}")
