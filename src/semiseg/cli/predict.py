"""`semiseg predict`: a trained run on pictures."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from semiseg.config.predicting import PredictOptions
from semiseg.runtime.launch import is_first
from semiseg.runtime.screen import printable


def predict(
    run: Path,
    what: Path,
    /,
    *,
    out: Path | None = None,
    overlay: Literal["tint", "outline", "none"] = "tint",
    opacity: float = 0.4,
    objects: bool = False,
    smallest: int = 1,
    window: int | None = None,
    stride: int | None = None,
    blend: Literal["smooth", "mean"] = "smooth",
    flips: Literal["none", "horizontal", "both"] = "none",
    scales: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (1.0,),
    checkpoint: Literal["best", "last"] | None = None,
    device: str = "auto",
) -> int:
    """Segment images with a trained run.

    What the same model did before with the same options is kept. Images that cannot be read are named at the end, and
    the exit status is then 1. Started by torchrun, several processes share the images.

    Parameters
    ----------
    run
        The run folder, or the folder of a model.
    what
        An image, a folder of images, a pattern in quotes such as "field/*.jpg", or a text file (.txt) of paths.
    out
        Folder for masks/, overlays/, confidence/ and areas.csv. Default: predictions/ in the run folder.
    overlay
        What is laid over the photograph.
    opacity
        Of the tint, 0 to 1.
    objects
        Count the objects of each class: connected pixels.
    smallest
        Pixels of the smallest object that is counted.
    window
        Side of overlapping windows, pixels. Default: as the run was scored, but windows of 768 above 8 million pixels.
    stride
        Pixels between two windows. Default: three quarters of the window.
    blend
        How windows are joined where --window is given: smoothly, or by the mean.
    flips
        Average with mirrored images: left to right, or also top to bottom.
    scales
        Average over images resized by these factors.
    checkpoint
        Weights of this checkpoint instead of the run's model.
    device
        `auto`, `cpu` or `cuda:N`.
    """
    options = {
        "overlay": overlay, "opacity": opacity, "objects": objects, "smallest": smallest, "window": window,
        "stride": stride, "blend": blend, "flips": flips, "scales": scales,
    }  # fmt: skip
    return _predicted(run, what, out, checkpoint=checkpoint, device=device, options=options)


def _predicted(
    run: Path, what: Path, out: Path | None, *, checkpoint: str | None, device: str, options: dict[str, Any]
) -> int:
    PredictOptions(**options)  # mistakes first, then torch
    model = None
    if checkpoint is not None:
        from semiseg.training import checkpoint_model

        model = checkpoint_model.load_checkpoint_model(run, checkpoint)
    from semiseg.evaluation import segment

    made = segment.predict_images(run, what, out, model=model, device=device, **options)
    if not is_first():
        return 0
    print(f"{made.count} masks in {printable(made.out / 'masks')}")
    if made.failed:
        print(f"semiseg: {len(made.failed)} of {len(made.failed) + made.count} images were left out:", file=sys.stderr)
        print(*map(printable, made.failed.values()), sep="\n", file=sys.stderr)
    return 1 if made.failed else 0
