"""What lies in a folder of pictures and is not taken: what is hidden, and pictures of other formats."""

from __future__ import annotations

from collections.abc import Sequence

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
