"""What was given in place of a dataset's folder, in words: a file, nothing, or what this program itself writes."""

from __future__ import annotations

from pathlib import Path

from semiseg.data.layouts import KNOWN

_OURS = (  # files that are in each, and what it is; the first that fits
    (("plan.json",), "the run of `semiseg train FOLDER`"),
    (("config.yaml", "result.json"), "a run folder"),
    (("config.yaml", "metrics.jsonl"), "a run folder"),
    (("model.json", "model.safetensors"), "a model"),
    (("predict.json",), "a folder of predictions"),
    (("scores.json",), "a folder of scores"),
    (("suggestions.csv",), "a folder of suggestions"),
)
_RECIPES = ("recipe.yaml", "config.yaml")


def not_a_dataset(root: Path) -> str | None:
    """What `root`, in which no layout was found, is instead of a dataset, with the repair; None where it may be one."""
    expected = f"expected a folder of images and masks: {KNOWN}"
    if root.is_file():
        return f"{root} is a file; {expected}. Give the folder that holds the images, such as {root.absolute().parent}"
    if not root.exists():
        return f"there is no {root}; {expected}. Look for a mistake in its name"
    what = next((words for names, words in _OURS if all((root / name).is_file() for name in names)), None)
    if what is None or (root / "images").is_dir():
        return None
    recipe = next((root / name for name in _RECIPES if (root / name).is_file()), None)
    where = "" if recipe is None else f", which is data.root in {recipe}"
    return f"{root} is {what}, which semiseg wrote; {expected}. Give the folder that it was made from{where}"
