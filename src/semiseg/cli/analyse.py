"""The commands of `semiseg analyse`: the paper's Table 5 and Fig. 2, 4 and 5. Their docstrings are their help."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from semiseg.runtime.screen import printable


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """What all of these commands ask, spelled out among each one's options by cyclopts."""

    out: Path | None = None
    """Folder for what is written. Default: analysis in the first run folder."""
    root: Annotated[Path | None, Parameter(name="--data.root")] = None
    """Where the data are now. Default: where they were at the training."""
    labels: Annotated[list[str] | None, Parameter(name="--label")] = None
    """What to call a run; once for each. Default: their methods or, where these repeat, their folders."""
    subset: Annotated[Literal["val", "test"], Parameter(name="--set")] = "val"
    """Which images."""
    checkpoint: Literal["last", "best"] = "last"
    """The last, or the one with the best score on the validation images."""

    def folder(self, run: Path) -> Path:
        """Where to write of `run` and others."""
        return run / "analysis" if self.out is None else self.out

    @property
    def keywords(self) -> dict[str, Any]:
        """All but the folder, for a function of `semiseg.analysis`."""
        return {name: value for name, value in asdict(self).items() if name != "out"}


PLAIN = Asked()


def discrimination(run: Path, /, *others: Path, asked: Asked = PLAIN, pixels: str = "5000", seed: int = 0) -> None:
    """Tell how well features tell classes apart: variance within classes and between them (Table 5).

    Writes discrimination.json and .md.

    Parameters
    ----------
    run
        A run folder.
    others
        More of them.
    pixels
        Of each class at most so many, drawn with the seed, the same for all runs; or all.
    seed
        Of the draw.
    """
    from semiseg import analysis

    if pixels != "all" and (not pixels.isdecimal() or int(pixels) == 0):
        raise ValueError(f"--pixels is {pixels}; expected a number above 0, or all")
    most = None if pixels == "all" else int(pixels)
    runs, folder = [run, *others], asked.folder(run)
    for row in analysis.discriminate(runs, folder, **asked.keywords, pixels=most, seed=seed)["rows"]:
        versions = ("raw", "balanced", "unit", "unit_balanced")
        words = [f"{name.replace('_', ', ')} {row[name]['ratio']:.3f}" for name in versions]
        print(f"{printable(row['label'])}: inter / intra {'; '.join(words)}")
    print(printable(folder / "discrimination.md"))


def embedding(
    run: Path, /, *others: Path, asked: Asked = PLAIN, classes: str | None = None, pixels: int = 500, seed: int = 0
) -> None:
    """Draw features of a few classes on a plane, run beside run, by t-SNE, with prototypes as stars (Fig. 2).

    Writes embedding.svg, .png and .json.

    Parameters
    ----------
    run
        A run folder.
    others
        More of them.
    classes
        Names or numbers, with commas between. Default: the paper's five of VOC, or the first five that are shown.
    pixels
        Of each class at most so many, the same for all runs.
    seed
        Of the draw and of t-SNE.
    """
    from semiseg import analysis

    words = None if classes is None else [word.strip() for word in classes.split(",")]
    runs, folder = [run, *others], asked.folder(run)
    written = analysis.embed(runs, folder, **asked.keywords, classes=words, pixels=pixels, seed=seed)
    print(*map(printable, written), sep="\n")


def pictures(
    run: Path,
    /,
    *others: Path,
    asked: Asked = PLAIN,
    rule: Literal["boundary", "consistency"] = "boundary",
    count: int = 6,
) -> None:
    """Draw the images on which the last run gains most on the first, and score all at boundaries and within objects.

    As in Fig. 4 (boundary) and Fig. 5 (consistency): input, truth and predictions, with boxes where they differ.
    Writes pictures-RULE.png, .json and .md.

    Parameters
    ----------
    run
        A run folder; where there are more, the baseline.
    others
        More of them.
    rule
        Gain in what: boundary IoU, or the consistency of a prediction within each object.
    count
        Images to draw.
    """
    from semiseg import analysis

    folder = asked.folder(run)
    for row in analysis.picture([run, *others], folder, **asked.keywords, rule=rule, count=count)["rows"]:
        boundary, inside = row["boundary_iou"]["mean"], row["consistency"]["mean"]
        print(f"{printable(row['label'])}: boundary mIoU {boundary:.2f}, consistency within objects {inside:.2f}")
    print(printable(folder / f"pictures-{rule}.png"))
