"""What `--labeled` may say: a list file, a split of the data's own folder, a published split, or a number.

No torch when this is imported: a mistake in the options is answered at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from semiseg.config.fields import ConfigError, nearest
from semiseg.config.layers import Flat
from semiseg.config.options import DataOptions

_LABELED, _UNLABELED = "labeled.txt", "unlabeled.txt"

CHOSEN_HERE = ("data.labeled", "data.labeled_count", "data.split", "data.scenes.labeled")
"""Options that `--labeled` sets."""


@dataclass(frozen=True)
class LabeledSet:
    """Labelled images by a short name, and the options that choose them."""

    name: str
    overrides: Flat = field(default_factory=dict)


def labeled_set(words: str, data: DataOptions) -> LabeledSet:
    """The images that `words` name for the data that the options describe. Raises ConfigError if they name none.

    A list file, relative to data.root or to the current folder; for a published split its name, or the end of it
    (`92`) if only one ends so; for a folder `N` for ROOT/splits/N/labeled.txt or, where there is no ROOT/splits, so
    many images; for drawn scenes so many scenes. An unlabeled.txt beside a labeled.txt names the unlabelled images.
    """
    if data.dataset == "scenes":
        return LabeledSet(words, {"data.scenes.labeled": _count(words, "of drawn scenes only a number")})
    if any(path.is_file() for path in (data.root / words, Path(words))):
        return _list_file(words, data)
    if data.dataset != "folder":
        name = _published(words, data.dataset)
        return LabeledSet(name, {"data.split": name, "data.labeled": None})
    return _of_folder(words, data)


def recipes_own(data: DataOptions) -> LabeledSet:
    """The labelled images that the options already name."""
    if data.dataset == "scenes":
        return LabeledSet(str(data.scenes.labeled))
    count = None if data.labeled_count is None else str(data.labeled_count)
    return LabeledSet(data.split or (data.labeled and _list_name(data.labeled)) or count or "all")


def _list_file(words: str, data: DataOptions) -> LabeledSet:
    overrides: Flat = {"data.labeled": words, "data.split": None}
    path = PurePosixPath(words)
    beside = str(path.with_name(_UNLABELED))
    there = any(found.is_file() for found in (data.root / beside, Path(beside)))
    if path.name == _LABELED and there and data.unlabeled is None and data.unlabeled_shards is None:
        overrides["data.unlabeled"] = beside
    return LabeledSet(_list_name(words), overrides)


def _list_name(words: str) -> str:
    path = PurePosixPath(words)
    return path.parent.name if path.name == _LABELED and path.parent.name else path.stem


def _published(words: str, dataset: str) -> str:
    from semiseg.data.splits import PUBLISHED

    names = [name for name, split in PUBLISHED.items() if split.dataset == dataset]
    found = [name for name in names if name == words or name.endswith(f"/{words}")]
    if len(found) != 1:
        raise ConfigError(f"--labeled {words}: neither a list file nor a published split; {nearest(words, names)}")
    return found[0]


def _of_folder(words: str, data: DataOptions) -> LabeledSet:
    splits = data.root / "splits"
    if (splits / words / _LABELED).is_file():
        return _list_file(f"splits/{words}/{_LABELED}", data)
    if not data.root.is_dir():
        raise ConfigError(f"data.root is {data.root}, which is no folder")
    if splits.is_dir():
        names = sorted(path.parent.name for path in splits.glob(f"*/{_LABELED}"))
        raise ConfigError(
            f"--labeled {words}: there is neither a list file of that name nor {splits / words / _LABELED}; "
            f"{nearest(words, names)}"
        )
    expected = f"there is neither a list file of that name nor a folder {splits}; otherwise only a number"
    return LabeledSet(words, {"data.labeled_count": _count(words, expected), "data.labeled": None})


def _count(words: str, expected: str) -> int:
    if not re.fullmatch("[1-9][0-9]*", words):
        raise ConfigError(f"--labeled {words}: {expected} says which images are labelled")
    return int(words)
