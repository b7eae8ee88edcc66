"""What of a finished run would be overlooked in its figures, in words."""

from __future__ import annotations

from pathlib import Path

from semiseg.report.runs import Run, read_run


def doubts(run: Run) -> list[str]:
    """Sentences on a finished run in which no pseudo-label ever taught, or a class was never found; mostly none.

    A class that no validation image shows, and that nothing was taken for, has no IoU and is not meant.
    """
    if run.result is None:
        return []
    kept = [value for _, value in run.series("train", "kept")]
    found = []
    if kept and not any(kept):
        found.append(
            "no pseudo-label ever taught: none reached the threshold in any step, and what was learned is from the "
            "labelled images alone; a lower method.threshold or more steps may help"
        )
    lost = [name for name, iou in run.iou.items() if iou == 0]
    if lost:
        names = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        found.append(
            f"IoU is 0 at the last step for {names}: not one of these pixels was found; look whether the labelled "
            "images show enough of them"
        )
    return found


def doubts_of(folder: Path) -> list[str]:
    """`doubts` of the run in `folder`, for the end of a training."""
    return doubts(read_run(folder))
