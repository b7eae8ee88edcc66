"""The command that runs the paper's tables and figures. Its docstring is the command line's help."""

from pathlib import Path
from typing import Any, Literal


def reproduce(
    table: str,
    /,
    *,
    dataset: Literal["voc", "cityscapes", "folder", "camvid"] | None = None,
    scale: Literal["full", "half", "cpu"] | None = None,
    preset: Literal["paper", "release"] | None = None,
    only: str | None = None,
    labeled: str | None = None,
    seeds: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    plan: bool = False,
    **options: Any,
) -> None:
    """Run a table or figure of the paper, and hold what comes out beside what it says.

    Runs what is not yet done, by any table in the same folder: a stopped reproduction goes on with the same command.
    Options of `train` are for all runs; a method takes those `method.*` that it has.
    `--help-all` lists every one.

    Parameters
    ----------
    table
        table1 to table7, figure2 to figure5, or the sweeps temperature and points.
    dataset
        On what. Default: the paper's for this table.
    scale
        full: the paper's. half: images and crops of half the size, ResNet-50, half the epochs. cpu: a small network,
        few steps. Default: full; of camvid cpu.
    preset
        What the text says, or the configurations the authors released. Default: release.
    only
        Rows with commas between them. Default: all.
    labeled
        Sets of labelled images, as in `compare`. Default: the table's; of a folder the smallest of its splits that
        fills a batch.
    seeds
        Whole numbers with commas between them. Default: 0; at cpu scale 0,1.
    out
        Folder for the runs and TABLE.html, .md and .json. Default: runs/reproduce-DATASET-SCALE.
    jobs
        Runs at a time. Default: one on each GPU, or one on the CPU, whose threads several share.
    plan
        Only say what would run, what it costs here, and what is missing.
    """
    from semiseg.studies.paper import grid

    # A mistake is told before torch is imported.
    made = grid.make_reproduction(table, dataset, scale, preset, only, labeled, seeds, out, options)
    if plan:
        from semiseg.studies.paper import plan as planning

        print(planning.plan(made))
        return
    from semiseg.studies import run

    run.require_all(run.run_study(made, jobs))
