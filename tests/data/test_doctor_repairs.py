"""What --fix writes never changes how a right mask is read, keeps names, and leaves what is in doubt to the user."""

import numpy as np
import pytest
from PIL import Image
from support.own_folders import HEIGHT, NAMES, WIDTH, save, write

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.doctor.examine import examine, repair
from semiseg.data.doctor.measures import BORDER, border_pixels
from semiseg.data.sets.data_file import read_meaning

CLASSES = ("soil", "leaf", "stem")


def indices(seed):
    """Soil, leaf and stem, (H, W); the last two touch."""
    made = np.zeros((HEIGHT, WIDTH), np.uint8)
    made[10 + seed % 4 : 38, 6:30] = 1
    made[10 + seed % 4 : 38, 30:54] = 2
    return made


def bordered(made):
    """255 at the borders between values, three pixels wide, and around the mask."""
    padded = np.pad(made, 1, mode="edge").astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    edge = windows.max((2, 3)) != windows.min((2, 3))
    edge[0] = edge[-1] = edge[:, 0] = edge[:, -1] = True
    return np.where(edge, 255, made).astype(np.uint8)


def written(root, change, classes=None):
    write(root)
    for seed, name in enumerate(NAMES):
        made = change(seed)
        save(made, root / f"masks/{name}.png") if isinstance(made, np.ndarray) else made.save(
            root / f"masks/{name}.png"
        )
    if classes is not None:
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return DataOptions(root=root)


def finding(options, kind):
    return next(each for each in examine(options).findings if each.kind == kind)


def read(options):
    """Name -> its mask, as training reads it."""
    dataset = open_dataset(options)
    sets = (dataset.labeled, dataset.val)
    return {name: images.mask(place) for images in sets for place, name in enumerate(images.names)}


# Palettes


@pytest.mark.parametrize("odd", [{0}, {0, 1, 2, 3, 4, 5}])
@pytest.mark.parametrize("values", [(0, 1, 2), (0, 2, 4), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_fix_leaves_every_mask_alone_where_palettes_differ(tmp_path, classes, values, odd):
    def change(seed):
        made = np.array(values, np.uint8)[indices(seed)]
        picture = Image.fromarray(made)
        colors = np.zeros((5, 3), np.uint8)
        colors[list(values)] = [(0, 0, 0), (0, 200, 0), (200, 0, 0)] if seed in odd else [
            (0, 0, 0), (200, 0, 0), (0, 200, 0),
        ]  # fmt: skip
        picture.putpalette(colors.ravel().tolist())
        return picture

    options = written(tmp_path, change, classes)
    found = examine(options)
    (differ,) = (each for each in found.findings if each.kind == "palettes-differ")
    assert all(each.fix is None for each in found.findings)
    assert "does nothing" in differ.words
    assert "palette: colors" in differ.words
    assert repair(options) == []
    assert not (tmp_path / "data.yaml").exists()


# 255 beside grey levels


def levels(*values):
    return lambda made: np.array(values, np.uint8)[made]


def blotch(made):
    """255 in a part of its own, partly thin: neither border nor class."""
    made = made.copy()
    made[2:9, 3:50] = 255
    return made


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda made: bordered(levels(0, 100, 200)(made)), "values: {0: 0, 100: 1, 200: 2, 255: ignore}"),
        (lambda made: bordered(levels(10, 20, 40)(made)), "values: {10: 0, 20: 1, 40: 2, 255: ignore}"),
        (levels(0, 127, 255), "values: {0: 0, 127: 1, 255: 2}"),
        (levels(0, 128, 255), "values: {0: 0, 128: 1, 255: 2}"),
        (levels(0, 100, 200), "values: {0: 0, 100: 1, 200: 2}"),
    ],
)
def test_fix_of_grey_levels_ignores_a_border_and_keeps_a_class(tmp_path, change, line):
    options = written(tmp_path, lambda seed: change(indices(seed)))
    assert line in finding(options, "grey-level-masks").fix
    repair(options)
    assert line in (tmp_path / "data.yaml").read_text()
    stored = {name: change(indices(seed)) for seed, name in enumerate(NAMES)}
    kept = [value for value in np.unique(stored["ash"]) if f"{value}: ignore" not in line]
    for name, made in read(options).items():
        expected = np.full_like(made, 255)
        for index, value in enumerate(kept):
            expected[stored[name] == value] = index
        assert np.array_equal(made, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: blotch(levels(0, 100, 200)(made)),  # no border, though no step of the levels
        levels(0, 100, 255),
        lambda made: bordered(levels(0, 85, 170)(made)),  # a border, and a step
    ],
    ids=["blotch", "uneven", "even border"],
)
def test_fix_leaves_255_to_the_user_where_it_is_in_doubt(tmp_path, change):
    options = written(tmp_path, lambda seed: change(indices(seed)))
    found = finding(options, "grey-level-masks")
    assert found.fix is None
    assert "255: ignore}" in found.words
    assert ": 2}` or `values" in found.words or "255: 2}" in found.words or "255: 3}" in found.words
    assert repair(options) == []


@pytest.mark.parametrize(
    ("change", "end"),
    [(lambda made: bordered(levels(0, 85, 170)(made)), "255: ignore}"), (levels(0, 100, 255), "255: 2}")],
)
def test_the_number_of_named_classes_decides_about_255(tmp_path, change, end):
    options = written(tmp_path, lambda seed: change(indices(seed)), CLASSES)
    assert finding(options, "grey-level-masks").fix.endswith(end)


def test_the_pixels_of_a_border_are_counted_as_a_slow_twin_does():
    random = np.random.default_rng(0)
    values = np.kron(random.choice([0, 1, 255], (5, 4)), np.ones((9, 9), int))
    padded = np.pad(values, BORDER, constant_values=-1)
    expected = 0
    for row, column in np.argwhere(values == 255):
        near = padded[row : row + 2 * BORDER + 1, column : column + 2 * BORDER + 1]
        expected += len({*near.ravel().tolist()} - {255}) > 1
    assert border_pixels(values, 255) == expected


# Names of classes


COLORS = np.array([[0, 0, 0], [0, 128, 0], [200, 0, 0]], np.uint8)


@pytest.mark.parametrize("file", ["classes.txt", "data.yaml"])
def test_fix_of_colour_masks_keeps_the_names(tmp_path, file):
    options = written(tmp_path, lambda seed: COLORS[indices(seed)])
    text = "".join(f"{name}\n" for name in CLASSES) if file == "classes.txt" else f"classes: [{', '.join(CLASSES)}]\n"
    (tmp_path / file).write_text(text)
    assert "guess" in finding(options, "colour-masks").words
    repair(options)
    assert (tmp_path / "classes.txt").read_text().splitlines()[1:] == ["soil 0 0 0", "leaf 0 128 0", "stem 200 0 0"]
    assert open_dataset(options).classes == CLASSES
    assert np.array_equal(read(options)["ash"], indices(0))


@pytest.mark.parametrize("classes", [("soil", "leaf"), ("soil", "leaf", "stem", "pest")])
def test_fix_of_colour_masks_refuses_another_number_of_names(tmp_path, classes):
    options = written(tmp_path, lambda seed: COLORS[indices(seed)], classes)
    found = finding(options, "colour-masks")
    assert found.fix is None
    assert "3 colours" in found.words
    assert f"{len(classes)} classes are named" in found.words
    assert repair(options) == []
    assert read_meaning(tmp_path).classes == classes


@pytest.mark.parametrize("values", [(0, 127, 255), (0, 100, 200), (1, 2, 3)])
def test_fix_keeps_the_names_in_data_yaml(tmp_path, values):
    options = written(tmp_path, lambda seed: np.array(values, np.uint8)[indices(seed)])
    (tmp_path / "data.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n")
    assert len(repair(options)) == 1
    assert open_dataset(options).classes == CLASSES
    assert np.array_equal(read(options)["ash"], indices(0))
