"""The commands of `semiseg analyse`: the paper's Table 5 and Fig. 2, 4 and 5. Their docstrings are their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Root = Annotated[Path | None, Parameter(name="--data.root")]
Labels = Annotated[list[str] | None, Parameter(name="--label")]
Subset = Annotated[Literal["val", "test"], Parameter(name="--set")]
Checkpoint = Literal["last", "best"]


def discrimination(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    root: Root = None,
    labels: Labels = None,
    subset: Subset = "val",
    checkpoint: Checkpoint = "last",
    pixels: str = "5000",
    seed: int = 0,
) -> None:
    """Tell how well features tell classes apart: variance within classes and between them (Table 5).

    Parameters
    ----------
    run
        A run folder.
    others
        More of them.
    out
        Folder for discrimination.json and .md. Default: analysis in the first run folder.
    root
        Where the data are now. Default: where they were at the training.
    labels
        What to call a run; once for each. Default: their methods or, where these repeat, their folders.
    subset
        Which images.
    checkpoint
        The last, or the one with the best score on the validation images.
    pixels
        Of each class at most so many, drawn with the seed, the same for all runs; or all.
    seed
        Of the draw.
    """
    from semiseg import analysis

    found = analysis.discriminate(
        [run, *others],
        _folder(run, out),
        root=root,
        labels=labels,
        subset=subset,
        checkpoint=checkpoint,
        pixels=_limit(pixels),
        seed=seed,
    )
    for row in found["rows"]:
        words = [f"{name.replace('_', ', ')} {row[name]['ratio']:.3f}" for name in _VERSIONS]
        print(f"{row['label']}: inter / intra {'; '.join(words)}")
    print(_folder(run, out) / "discrimination.md")


_VERSIONS = ("raw", "balanced", "unit", "unit_balanced")


def embedding(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    root: Root = None,
    labels: Labels = None,
    classes: str | None = None,
    subset: Subset = "val",
    checkpoint: Checkpoint = "last",
    pixels: int = 500,
    seed: int = 0,
) -> None:
    """Draw features of a few classes on a plane, run beside run, by t-SNE, with prototypes as stars (Fig. 2).

    Parameters
    ----------
    run
        A run folder.
    others
        More of them.
    out
        Folder for embedding.svg, .png and .json. Default: analysis in the first run folder.
    root
        Where the data are now. Default: where they were at the training.
    labels
        What to call a run; once for each. Default: their methods or, where these repeat, their folders.
    classes
        Names or numbers, with commas between. Default: the paper's five of VOC, or the first five that are shown.
    subset
        Which images.
    checkpoint
        The last, or the one with the best score on the validation images.
    pixels
        Of each class at most so many, the same for all runs.
    seed
        Of the draw and of t-SNE.
    """
    from semiseg import analysis

    written = analysis.embed(
        [run, *others],
        _folder(run, out),
        root=root,
        labels=labels,
        classes=_words(classes),
        subset=subset,
        checkpoint=checkpoint,
        pixels=pixels,
        seed=seed,
    )
    print(*written, sep="\n")


def pictures(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    root: Root = None,
    labels: Labels = None,
    rule: Literal["boundary", "consistency"] = "boundary",
    count: int = 6,
    subset: Subset = "val",
    checkpoint: Checkpoint = "last",
) -> None:
    """Draw the images on which the last run gains most on the first, and score all at boundaries and within objects.

    As in Fig. 4 (boundary) and Fig. 5 (consistency): input, truth and predictions, with boxes where they differ.

    Parameters
    ----------
    run
        A run folder; where there are more, the baseline.
    others
        More of them.
    out
        Folder for pictures-RULE.png, .json and .md. Default: analysis in the first run folder.
    root
        Where the data are now. Default: where they were at the training.
    labels
        What to call a run; once for each. Default: their methods or, where these repeat, their folders.
    rule
        Gain in what: boundary IoU, or the consistency of a prediction within each object.
    count
        Images to draw.
    subset
        Which images.
    checkpoint
        The last, or the one with the best score on the validation images.
    """
    from semiseg import analysis

    found = analysis.picture(
        [run, *others],
        _folder(run, out),
        root=root,
        labels=labels,
        rule=rule,
        count=count,
        subset=subset,
        checkpoint=checkpoint,
    )
    for row in found["rows"]:
        boundary, inside = row["boundary_iou"]["mean"], row["consistency"]["mean"]
        print(f"{row['label']}: boundary mIoU {boundary:.2f}, consistency within objects {inside:.2f}")
    print(_folder(run, out) / f"pictures-{rule}.png")


def _folder(run: Path, out: Path | None) -> Path:
    return run / "analysis" if out is None else out


def _words(text: str | None) -> list[str] | None:
    """Words with commas between them; None: the default."""
    return None if text is None else [word.strip() for word in text.split(",")]


def _limit(text: str) -> int | None:
    """A number of pixels; None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"--pixels is {text}; expected a number above 0, or all")
    return int(text)
