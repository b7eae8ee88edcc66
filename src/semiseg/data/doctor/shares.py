"""How much of the masks each class covers, and in how many it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from semiseg.data.dataset import Dataset
from semiseg.data.doctor.examination import Finding, SeenClass
from semiseg.data.doctor.looks import MaskLook
from semiseg.data.doctor.seen import Seen
from semiseg.data.numbering import one_class
from semiseg.types import IGNORE


def names_of(seen: Seen, dataset: Dataset) -> dict[int, str]:
    """Value in the masks -> its class; of colour masks the values are the colours' numbers."""
    if seen.reader.colors is not None and any(_is_colored(look, seen) for look in seen.masks.values()):
        codes = [(red << 16) + (green << 8) + blue for red, green, blue in dataset.colors]
        return dict(zip(codes, dataset.classes, strict=True))
    if seen.reader.values_to is not None:
        return {value: dataset.classes[index] for value, index in seen.reader.values_to if index != IGNORE}
    if dataset.binary:
        return {0: dataset.classes[0], IGNORE: dataset.classes[1]}
    return dict(enumerate(dataset.classes))


def classes_of(seen: Seen, dataset: Dataset, split: Mapping[str, Sequence[str]]) -> tuple[SeenClass, ...]:
    """Of each class its share of the labelled pixels, and the masks that show it."""
    names = names_of(seen, dataset)
    pixels, shown, validate = Counter[str](), Counter[str](), Counter[str]()
    for name in ("labeled", "val", "test"):
        for id_ in split.get(name, ()):
            look = seen.masks.get(id_)
            if look is None:
                continue
            by_color = not look.colored and _is_colored(look, seen)
            held: Counter[str] = Counter()
            for value, count in look.values.items():
                code = (look.palette or {}).get(value, value) if by_color else value
                held.update({names[code]: count} if code in names else {})
            pixels.update(held)
            shown.update(held.keys())
            validate.update(held.keys() if name == "val" else ())
    total = max(sum(pixels.values()), 1)
    return tuple(SeenClass(name, pixels[name] / total, shown[name], validate[name]) for name in dataset.classes)


def _is_colored(look: MaskLook, seen: Seen) -> bool:
    """Whether the mask is read by its colours."""
    return look.colored or (seen.reader.palette_colors and look.palette is not None)


def unlearnable(seen: Seen, dataset: Dataset, split: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Lists whose masks show nothing, or one class alone, as training refuses them."""
    for name, what in (("labeled", "labelled"), ("val", "validation")):
        if not any(each.images for each in classes_of(seen, dataset, {name: split[name]})):
            words = (
                f"the masks of the {what} images ({dataset.split[name]['name']}) have no labelled pixel: every value "
                "is ignored. Draw their classes, or name other images"
            )
            yield Finding("nothing-drawn", "error", words, seen.masks_of(split[name]))
            return
    both = {name: split[name] for name in ("labeled", "val")}
    shown = [place for place, each in enumerate(classes_of(seen, dataset, both)) if each.images]
    if len(shown) == 1:
        ids = [id_ for ids in both.values() for id_ in ids]
        ignored = any(IGNORE in seen.masks[id_].values for id_ in ids if id_ in seen.masks)
        words = one_class({*shown, *([IGNORE] if ignored else [])}, dataset.classes)
        yield Finding("one-class", "error", words, seen.masks_of(ids))
