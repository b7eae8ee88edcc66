"""How much of the masks each class covers, and in how many it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from semiseg.data.dataset import Dataset
from semiseg.data.doctor.examination import SeenClass
from semiseg.data.doctor.looks import MaskLook
from semiseg.data.doctor.seen import Seen
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
