"""What is passed over in a folder: what is hidden, pictures of other formats, and what this program wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from semiseg.data.images import IMAGE_SUFFIXES

_HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
"""Folders that an archiver, a network drive and a system make beside anyone's files, some with small copies of them."""

_OTHER_PICTURES = {
    ".jfif", ".jpe", ".jif", ".jfi", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jxl", ".gif", ".apng", ".heic",
    ".heif", ".hif", ".avif", ".psd", ".psb", ".xcf", ".kra", ".ico", ".icns", ".tga", ".pcx", ".dds", ".exr", ".hdr",
    ".pic", ".sgi", ".rgb", ".ras", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".pam", ".qoi", ".svg", ".svgz", ".eps",
    ".ps", ".ai", ".pdf", ".dib", ".wdp", ".jxr", ".mpo", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw",
    ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".raw", ".3fr", ".iiq", ".erf", ".kdc", ".dcm",
    ".dicom", ".nii", ".nrrd", ".mha", ".mhd", ".fits", ".fit", ".fts", ".czi", ".lif", ".nd2", ".lsm", ".svs",
    ".ndpi", ".vsi", ".btf", ".img", ".ecw", ".sid", ".vrt",
}  # fmt: skip
_TEXTS = {
    "readme", "license", "licence", "copying", "notice", "authors", "changelog", "version", "makefile", "todo", "index",
    "checksums",
}  # fmt: skip
"""Names without an ending that are no picture's."""

WRITTEN = {
    "predict.json": ("predict", ("masks", "overlays", "confidence", "legend.png")),
    "suggestions.csv": ("suggest", ("suggestions.png",)),
    "evaluation.html": ("evaluate", ("worst.png",)),
    "metrics.jsonl": ("analyse", ("analysis",)),
}
"""File of this program -> the command, and the folders and pictures that it writes beside that file."""
OWN_FOLDER = "semiseg-check"
"""Where `semiseg check` draws its contact sheet."""
PASSED_OVER = "passed over"
"""How the warning about them begins."""
_RUNS = ("metrics.jsonl", "plan.json")
"""Each is in a run folder."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is passed over without a word."""
    return name.startswith(".") or name in _HIDDEN


def may_be_picture(name: str) -> bool:
    """Whether a file that does not end as pictures do here may be one: its ending is another format's, or lacking."""
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem:
        return name.casefold() not in _TEXTS
    ending = f".{ending.strip().lower()}"
    return ending in _OTHER_PICTURES or ending in IMAGE_SUFFIXES


def other_pictures(names: Sequence[str], folder: object) -> str:
    """The warning about files in `folder` that may be pictures and are left out; `names` are not empty."""
    shown = ", ".join(map(ascii, names[:5])) + ", ..." * (len(names) > 5)
    return (
        f"{len(names)} file(s) in {folder} are left out, for their names end in none of {', '.join(IMAGE_SUFFIXES)}: "
        f"{shown}. If they are pictures, save them as PNG or JPEG, or give them the ending of their format"
    )


def written_beside(names: Iterable[str]) -> dict[str, str]:
    """Of a folder with these `names`: what this program would have written there, each with the command."""
    found = {OWN_FOLDER: "check"}
    for tells in WRITTEN.keys() & set(names):
        command, parts = WRITTEN[tells]
        found |= dict.fromkeys(parts, command)
    return found


def written_by(path: Path) -> str | None:
    """The command that wrote `path`, or the folder that it lies in; None where it is not this program's."""
    whole = Path(os.path.abspath(path))
    for each in (whole, *whole.parents):
        for tells, (command, parts) in WRITTEN.items():
            if each.name in parts and os.path.isfile(each.parent / tells):
                return command
        if each.name == OWN_FOLDER:
            return "check"
    return None


def refuse_written(path: Path) -> None:
    """Raise ValueError where `path`, which is to be read as pictures or masks of one's own, is this program's."""
    command = written_by(path)
    if command is not None:
        raise ValueError(
            f"{path} was written by `semiseg {command}`; expected pictures or masks of your own. Name another folder. "
            "What you want to use all the same, such as masks that you corrected, copy into a folder of its own"
        )


def refuse_run(folder: Path) -> None:
    """Raise ValueError where `folder`, in which there are no pictures, is a run folder."""
    if any(os.path.isfile(folder / name) for name in _RUNS):
        raise ValueError(f"{folder} is a run folder, which `semiseg train` wrote: name the folder of your pictures")


def passed_over_in_words(passed: Sequence[tuple[str, str]]) -> str:
    """The warning about what this program wrote: paths with their commands, which are not empty."""
    shown = ", ".join(path for path, _ in passed[:5]) + ", ..." * (len(passed) > 5)
    commands = ", ".join(sorted({f"`semiseg {command}`" for _, command in passed}))
    return f"{PASSED_OVER}, for {commands} wrote it: {shown}"
