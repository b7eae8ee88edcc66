"""The commands after a training: score on other pictures, and choose what to label next. Docstrings are their help."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from semiseg.config.layers import flatten
from semiseg.runtime.screen import printable


def evaluate(
    run: Path,
    /,
    *,
    checkpoint: Literal["best", "last"] | None = None,
    subset: Annotated[Literal["val", "test"] | None, Parameter(name="--set")] = None,
    root: Annotated[Path | None, Parameter(name="--data.root")] = None,
    images: Path | None = None,
    masks: Path | None = None,
    out: Path | None = None,
    tolerance: float | None = None,
    worst: int | None = None,
    **options: Any,
) -> int:
    """Score a trained run, on its validation or test images, or on pictures and masks of your own.

    With --images and --masks its model is scored as validation scores it, and a page with the worst images is written.
    Files that cannot be read are named at the end, and the exit status is then 1.

    Parameters
    ----------
    run
        The run folder.
    checkpoint
        The one with the best score on the validation images, or the last. Default: best.
    subset
        Which images of the run. Default: val.
    root
        Where the run's data are now. Default: where they were at the training.
    images
        A folder of pictures of your own.
    masks
        The folder of their masks: NAME.png for NAME.jpg.
    out
        Folder for scores.json, images.csv, worst.png and evaluation.html. Default: RUN/evaluation-NAME.
    tolerance
        Of boundary F, as a share of the image's diagonal. Default: 0.0075.
    worst
        How many of the worst images are shown. Default: 6.
    """
    evaluation = {key.removeprefix("evaluation."): value for key, value in options.items()}
    of_run = {"--checkpoint": checkpoint, "--set": subset, "--data.root": root}
    of_own = {"--out": out, "--tolerance": tolerance, "--worst": worst}
    if images is None and masks is None:
        _refuse(of_own, "is for pictures of your own: name them with --images and --masks, or leave it out")
        from semiseg.training import finished as runs

        scores = runs.evaluate(
            run, checkpoint=checkpoint or "best", subset=subset or "val", evaluation=evaluation, root=root
        )
        print(*(printable(f"{key}: {value}") for key, value in flatten(scores).items()), sep="\n")
        return 0
    _refuse(of_run, "is of the run's own images; pictures of --images are scored with the model in RUN/model: leave it")
    if images is None or masks is None:
        raise ValueError("--images and --masks belong together: name both folders")
    from semiseg.analysis import own_pictures

    given: dict[str, Any] = {name.removeprefix("--"): value for name, value in of_own.items() if value is not None}
    return _print_own(own_pictures.evaluate_pictures(run, images, masks, **given, evaluation=evaluation))


def _refuse(given: dict[str, Any], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} {why}")


def _print_own(document: dict[str, Any]) -> int:
    """The scores as a table; returns 1 where a file could not be read."""
    scores, count, words = (
        document["scores"],
        document["count"],
        {"miou": "mIoU", "dice": "Dice", "boundary_f": "boundary F"},
    )
    print(f"{count} images, {document['evaluation']['protocol']} as in validation; per cent (95 % interval)")
    for name in ("miou", "dice", "boundary_f", "accuracy"):
        print(f"{words.get(name, name):<12}{_cell(scores[name])}")
    wide = max(map(len, (*scores["classes"], "class"))) + 2
    print(f"\n{'class':<{wide}}{'images':>6}  {'IoU':<24}{'Dice':<24}{'boundary F':<24}".rstrip())
    for name, each in scores["classes"].items():
        cells = "".join(f"{_cell(each[kind]):<24}" for kind in ("iou", "dice", "boundary_f"))
        print(f"{printable(name):<{wide}}{each['images']:>6}  {cells}".rstrip())
    print("\nWorst:", printable(", ".join(document["worst"])) or "none has a label")
    print(printable(document["out"] / "evaluation.html"))
    failed = document["failed"]
    if failed:
        were = "file cannot be read and was" if len(failed) == 1 else "files cannot be read and were"
        print(f"semiseg: {len(failed)} {were} left out:", file=sys.stderr)
        print(*map(printable, failed.values()), sep="\n", file=sys.stderr)
    return 1 if failed else 0


def _cell(score: dict[str, float]) -> str:
    """A score with its interval, or a dash where no mask shows the class."""
    if score["value"] != score["value"]:
        return "–"
    return f"{score['value']:5.1f} ({score['low']:.1f} to {score['high']:.1f})"


def suggest(
    run: Path,
    /,
    *,
    count: int = 10,
    images: Path | None = None,
    out: Path | None = None,
    root: Annotated[Path | None, Parameter(name="--data.root")] = None,
) -> int:
    """Suggest which unlabelled images to label next: they resemble most of what the model doubts.

    Writes suggestions.csv, and suggestions.png with the doubtful regions marked. Files that cannot be read are named at
    the end, and the exit status is then 1.

    Parameters
    ----------
    run
        The run folder.
    count
        How many images.
    images
        A folder of images to choose among. Default: the run's unlabelled images.
    out
        Folder for what is written. Default: RUN/suggest.
    root
        Where the run's data are now. Default: where they were at the training.
    """
    from semiseg.analysis import suggest as suggesting

    found = suggesting.suggest(run, count, images=images, out=out, root=root)
    print(*map(printable, found.lines()), sep="\n")
    if found.failed:
        were = "image cannot be read and was" if len(found.failed) == 1 else "images cannot be read and were"
        print(f"semiseg: {len(found.failed)} {were} left out:", file=sys.stderr)
        print(*map(printable, found.failed.values()), sep="\n", file=sys.stderr)
    return 1 if found.failed else 0
