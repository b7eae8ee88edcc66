"""Images and masks that do not belong together, or of which one lacks the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from semiseg.data.doctor.examination import Finding
from semiseg.data.doctor.seen import Seen
from semiseg.data.pairs import MASK_FOLDERS, folders_of, pictures_in
from semiseg.data.sets.folder import orphans_in_words

_JPEG = (".jpg", ".jpeg")


def unpaired(seen: Seen) -> Iterator[Finding]:
    """Masks without an image, JPEG masks, images that were left out, and a second folder of masks."""
    layout = seen.tree.layout
    jpegs = [path for path in layout.orphans if path.lower().endswith(_JPEG)]
    if jpegs:
        files = tuple(layout.root / path for path in jpegs)
        yield Finding(
            "jpeg-masks",
            "warning",
            f"{len(files)} mask(s) are JPEG ({seen.named(files)}); expected PNG. JPEG changes the values at every "
            "border, so they are not read, and their images are unlabelled. Export them anew as PNG",
            files,
        )
    elif layout.orphans:
        files = tuple(layout.root / path for path in layout.orphans)
        yield Finding("unpaired", "warning", _joined(orphans_in_words(layout)) + f": {seen.named(files)}", files)
    for words in layout.doubts:
        yield Finding("without-mask", "warning", words)
    others = [name for name in _other_folders(seen) if pictures_in(seen.root / name)]
    if others:
        yield Finding(
            "two-mask-folders",
            "warning",
            f"masks are read from {layout.mask_folder.name}/, and {', '.join(f'{name}/' for name in others)} beside it "
            "holds pictures, too. Move out what is not meant",
            tuple(seen.root / name for name in others),
        )


def _other_folders(seen: Seen) -> list[str]:
    layout = seen.tree.layout
    folders = folders_of(seen.root)
    taken = layout.place[0].rstrip("/").lower()
    return [folders[name] for name in MASK_FOLDERS if name in folders and name != taken and taken in folders]


def none_to_train(seen: Seen, refused: str) -> str:
    """Why there is nothing to train on: `refused`, or that lists and folders take all images with a mask."""
    layout = seen.tree.layout
    if "has a mask to train on" not in refused or not layout.masked:
        return refused
    return (
        f"all {len(layout.masked)} images with a mask validate or test, and none is left to train on. Their masks are "
        f"read from {layout.mask_folder}. Add masks of other images, or name fewer images for validation"
    )


def _joined(words: list[str]) -> str:
    return ". ".join(words)


def sizes(seen: Seen) -> Iterator[Finding]:
    """Masks of another size than their images."""
    wrong: list[tuple[Path, str]] = []
    for id_, mask in seen.masks.items():
        image = seen.images.get(id_)
        if image is None or image.error or mask.error or (image.height, image.width) == (mask.height, mask.width):
            continue
        turned = (image.width, image.height) == (mask.height, mask.width)
        why = ", the other way round" if turned else ""
        path = seen.tree.layout.mask(id_)
        wrong.append((path, f"{mask.width} x {mask.height}, its image {image.width} x {image.height}{why}"))
    if wrong:
        shown = "; ".join(f"{seen.named([path])} is {words}" for path, words in wrong[:5])
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        turned = any("way round" in words for _, words in wrong)
        repair = " A photograph that its EXIF orientation turns needs a mask that is turned, too." if turned else ""
        yield Finding(
            "sizes-differ",
            "error",
            f"{len(wrong)} mask(s) have not the size of their image (width x height): {shown}{more}.{repair} Save each "
            "mask at the size of its image, without smoothing",
            tuple(path for path, _ in wrong),
        )
