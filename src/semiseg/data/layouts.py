"""Where the images and masks of a folder are: the layouts that people have, and which of them a folder is.

The standard layout, images/NAME.jpg and masks/NAME.png, is looked for first and wins; `data.pairs` finds the others.
Beside any of them may stand unlabeled/ and, where no list says it, val/ and test/.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from semiseg.data.listing import are_there, files_below, is_picture, picture_endings, require_folder
from semiseg.data.pairs import Candidate, candidates, folders_of, pictures_in
from semiseg.data.passed_over import refuse_run, refuse_written
from semiseg.data.spelling import by_normal_form

PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of folders that say which list their images are in."""
UNLABELED = ("unlabeled", "unlabelled")
"""Names of a folder whose images have no masks."""
KNOWN = (
    "images/NAME.jpg with masks/NAME.png (or labels/, annotations/, gt/, mask/), NAME.jpg with NAME_mask.png, NAME.jpg "
    "with NAME.png, or one of these inside train/ and val/"
)


@dataclass(frozen=True)
class Layout:
    """Which pictures a folder holds, and which masks belong to them. An id names a picture, without its ending."""

    root: Path
    words: str
    endings: dict[str, str]  # id -> the picture's ending, in the order of their paths
    masked: list[str]  # ids of the images with a mask, in that order
    folder: Path  # inside which a picture's path is its id, or its `stems`
    place: tuple[str, str] = ("masks/", ".png")  # around an id: where a mask would be, inside root
    stems: Mapping[str, str] = field(default_factory=dict)  # id -> path inside `folder` without ending, if not the id
    masks: Mapping[str, str] = field(default_factory=dict)  # id -> path inside root, if not as `place` says
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # val, test -> ids, as folders' names say
    orphans: tuple[str, ...] = ()  # masks that belong to no image: paths inside root
    doubts: tuple[str, ...] = ()  # what was left out or passed over, in words

    def stem(self, id_: str) -> str:
        """The picture's path inside `folder`, without its ending."""
        return self.stems.get(id_, id_)

    def image(self, id_: str) -> Path:
        """The picture's file."""
        return self.folder / (self.stem(id_) + self.endings[id_])

    def mask(self, id_: str) -> Path:
        """Where the image's mask is, or would be."""
        return self.root / (self.masks.get(id_) or id_.join(self.place))

    @property
    def mask_folder(self) -> Path:
        """The folder of the masks; the root where they lie among the images."""
        return self.root / self.place[0]


def find_layout(root: Path, by_folder: Collection[str] = ("val", "test")) -> Layout:
    """The layout of the folder `root`. `by_folder`: which of val/ and test/ are lists.

    Raises ValueError where there is none, or more than one, and as `picture_endings` does.
    """
    refuse_written(root / "masks" if os.path.isdir(root / "masks") else root)
    folders = folders_of(root)
    refused = None
    found = None
    if "images" in folders.values():
        try:
            found = _standard(root)
        except ValueError as error:
            if "have the same name" not in str(error):
                raise
            refused = error  # perhaps photograph and mask lie side by side in images/
    if found is None or not found.masked:
        others = _others(root, folders)
        if len(others) > 1:
            raise ValueError(
                f"{root} may be read in {len(others)} ways: {' or '.join(each.words for each in others)}. Move what is "
                "not meant out of the folder, or rename: images/NAME.jpg and masks/NAME.png always win"
            )
        found = others[0] if others else found
    if found is None:
        refuse_run(root)
        require_folder(
            root / "images", f". The folder must hold images/NAME.jpg and, for some, masks/NAME.png. Also read: {KNOWN}"
        )
        raise refused or ValueError(f"no images in {root}. It must hold {KNOWN}")
    found = _with_beside(found, folders, by_folder)
    return _parts_within(found, by_folder) if by_folder and not found.lists else found


def _standard(root: Path) -> Layout:
    """images/NAME.jpg and masks/NAME.png, whether or not there is any mask."""
    folder, masks = root / "images", root / "masks"
    endings = picture_endings(folder)
    there = are_there(masks, (f"{id_}.png" for id_ in endings))
    masked = {id_ for id_, found in zip(endings, there, strict=True) if found}
    files = mask_files(masks) if masked or not all(map(str.isascii, endings)) else []
    orphans = set(files) - {f"{id_}.png" for id_ in masked}
    respelt = respelt_masks([id_ for id_ in endings if not id_.isascii() and id_ not in masked], orphans)
    orphans -= {f"{name}.png" for name in respelt.values()}
    return Layout(
        root,
        "images/ and masks/",
        endings,
        [id_ for id_ in endings if id_ in masked or id_ in respelt],
        folder,
        masks={id_: f"masks/{name}.png" for id_, name in respelt.items()},
        orphans=tuple(f"masks/{file}" for file in sorted(orphans)),
    )


def mask_files(folder: Path) -> list[str]:
    """The files below `folder`, which need not be there. Raises ValueError for a link to nothing among the pictures."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return files_below(folder, lambda entry: is_picture(entry) or entry.is_file())
    return []


def respelt_masks(ids: list[str], orphans: Collection[str]) -> dict[str, str]:
    """Id -> the mask among `orphans` whose name differs in Unicode normalisation alone, where there is just one."""
    masks = by_normal_form(file.removesuffix(".png") for file in orphans if file.endswith(".png"))
    images = by_normal_form(ids)
    return {
        several[0]: masks[name][0]
        for name, several in images.items()
        if len(several) == 1 and len(masks.get(name, ())) == 1
    }


def _others(root: Path, folders: Mapping[str, str]) -> list[Layout]:
    """Every other layout in which some image has a mask."""
    aside = {name for names in (*PARTS.values(), UNLABELED) for name in names}
    found = [_of_pairs(root, pairs) for pairs in candidates(root, aside)]
    train = _part(folders, "train")
    if train is not None:
        found += [_of_pairs(root, pairs, f"{train}/") for pairs in candidates(root / train)]
    return found


def _of_pairs(root: Path, pairs: Candidate, inside: str = "") -> Layout:
    """The layout of pictures and masks that were found in root/`inside`; ids begin with it."""
    ids = {inside + id_: inside + path for id_, path in pairs.images.items()}
    return Layout(
        root,
        f"{inside} with {pairs.words}" if inside else pairs.words,
        {id_: path[path.rindex(".") :] for id_, path in ids.items()},
        [id_ for id_ in ids if id_.removeprefix(inside) in pairs.masks],
        root,
        (inside + pairs.place[0], pairs.place[1]),
        {id_: path[: path.rindex(".")] for id_, path in ids.items()},
        {inside + id_: inside + path for id_, path in pairs.masks.items()},
        orphans=tuple(inside + path for path in pairs.orphans),
    )


def _part(folders: Mapping[str, str], part: str) -> str | None:
    return next((folders[name] for name in PARTS[part] if name in folders), None)


def _with_beside(found: Layout, folders: Mapping[str, str], by_folder: Collection[str]) -> Layout:
    """`found` with the images in unlabeled/, val/ and test/ beside it."""
    for part in (part for part in ("val", "test") if part in by_folder):
        name = _part(folders, part)
        pairs = candidates(found.root / name) if name is not None else []
        if len(pairs) > 1:
            raise ValueError(
                f"{found.root / str(name)} may be read in {len(pairs)} ways: "
                f"{' or '.join(each.words for each in pairs)}. Move what is not meant out of it"
            )
        if pairs:
            found = _joined(found, _of_pairs(found.root, pairs[0], f"{name}/"), part)
        elif name is not None and found.words.startswith(PARTS["train"]):
            words = f"{found.root / name} holds no image with a mask beside it, and is left out"
            found = replace(found, doubts=(*found.doubts, words))
    for name in (folders[name] for name in UNLABELED if name in folders):
        if pictures_in(found.root / name):
            ids = {f"{name}/{id_}": ending for id_, ending in picture_endings(found.root / name).items()}
            found = _joined(found, Layout(found.root, f"{name}/", ids, [], found.root), None)
    return found


def _joined(found: Layout, more: Layout, part: str | None) -> Layout:
    """Both, with all ids' paths inside root; the images of `more` with a mask are the list `part`."""
    if found.folder != found.root:
        inside = f"{found.folder.relative_to(found.root).as_posix()}/"
        found = replace(found, folder=found.root, stems={id_: inside + found.stem(id_) for id_ in found.endings})
    kept = list(more.endings) if part is None else more.masked
    same = next((id_ for id_ in kept if id_ in found.endings), None)
    if same is not None:
        raise ValueError(f"{found.image(same)} and {more.image(same)} have the same name. Rename one of their folders")
    return replace(
        found,
        words=f"{found.words}; {more.words}",
        endings=found.endings | {id_: more.endings[id_] for id_ in kept},
        masked=[*found.masked, *more.masked],
        stems={**found.stems, **{id_: more.stem(id_) for id_ in kept}},
        masks={**found.masks, **more.masks},
        lists=found.lists if part is None else {**found.lists, part: tuple(more.masked)},
        orphans=(*found.orphans, *more.orphans),
        doubts=(*found.doubts, *_left_out(more.root / more.place[0].partition("/")[0], set(more.endings) - set(kept))),
    )


def _parts_within(found: Layout, by_folder: Collection[str]) -> Layout:
    """`found` with the lists that images/train/ and images/val/ say, where there is nothing else in images/.

    Of the lists, only those in `by_folder` are made; images of the other folders stay ordinary ones.
    """
    inside: dict[str, list[str]] = {}
    for id_ in found.endings:
        inside.setdefault(id_.partition("/")[0] if "/" in id_ else "", []).append(id_)
    part_of = {name: part for part, names in PARTS.items() for name in names}
    parts = {part_of[name.lower()]: ids for name, ids in inside.items() if name.lower() in part_of}
    known = {name for name in inside if name.lower() in part_of or name.lower() in UNLABELED}
    if known != set(inside) or "train" not in parts or len(parts) < 2:
        return found
    parts = {part: ids for part, ids in parts.items() if part in by_folder}
    masked = set(found.masked)
    without = {id_ for ids in parts.values() for id_ in ids if id_ not in masked}
    lists = {part: tuple(id_ for id_ in ids if id_ in masked) for part, ids in parts.items()}
    return replace(
        found,
        words=f"{found.words}, each with {', '.join(f'{name}/' for name in inside)}",
        endings={id_: ending for id_, ending in found.endings.items() if id_ not in without},
        lists={part: ids for part, ids in lists.items() if ids},
        doubts=(*found.doubts, *_left_out(found.folder, without)),
    )


def _left_out(folder: Path, ids: Iterable[str]) -> list[str]:
    ids = sorted(ids)
    if not ids:
        return []
    return [
        f"{len(ids)} image(s) for validation or testing in {folder} have no mask, such as {ids[0]}, and are left out. "
        "Add their masks, or move them to unlabeled/"
    ]
