"""Which runs a comparison is made of, what its words may name, and what is published for a row."""

from pathlib import Path

import numpy as np
import pytest
from support.folders import filled

from semiseg.config.fields import ConfigError
from semiseg.config.layers import flatten
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import config_to_dict
from semiseg.data import open_dataset
from semiseg.data.loading import training_batches
from semiseg.data.splits import PUBLISHED
from semiseg.methods import METHODS
from semiseg.runtime.distributed import pick_device
from semiseg.studies.grid import Grid, make_grid
from semiseg.studies.published import _MEANINGS, _TABLES, is_blender, meaning, published

NAMES = (
    "supervised", "mean_teacher", "cutmix", "pseudoseg", "cct", "gct", "cps", "pc2seg", "ael", "u2pl", "fixmatch",
    "unimatch", "unimatch_v2", "corrmatch", "prototype",
)  # fmt: skip


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with two splits and a validation list."""
    filled(tmp_path)
    (tmp_path / "val.txt").write_text("m8\nm9\n")
    for name, labeled in (("2", "m0\nm1\n"), ("4", "m0\nm1\nm2\nm3\n")):
        folder = tmp_path / "splits" / name
        folder.mkdir(parents=True)
        (folder / "labeled.txt").write_text(labeled)
        (folder / "unlabeled.txt").write_text("u0\nu1\n")
    return tmp_path


def of_folder(root: Path, labeled: str | None = "2", methods: str = "all", seeds: str = "0,1", **overrides) -> Grid:
    flat = {"data.root": root, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return make_grid("folder", methods, labeled, seeds, None, flat)


# The runs -------------------------------------------------------------------------------------------------------------


def test_there_is_a_run_for_each_method_labels_and_seed_the_references_first(root):
    grid = of_folder(root, "2,4", "cutmix,supervised")
    names = [cell.name for cell in grid.cells]
    assert names == [
        f"{labels}-{method}-seed{seed}" for seed in (0, 1) for labels in (2, 4) for method in ("supervised", "cutmix")
    ]
    assert grid.out == Path("runs/compare-folder")
    assert all(cell.config.run_folder == grid.out / cell.name for cell in grid.cells)
    assert not grid.reference_added
    assert of_folder(root, methods="cutmix").reference_added
    assert of_folder(root, methods="cutmix").methods == ("supervised", "cutmix")


def test_all_are_all_methods(root):
    assert set(of_folder(root).methods) == set(METHOD_OPTIONS)


def test_runs_differ_in_what_was_asked_for_and_in_nothing_else(root):
    grid = of_folder(root, "2,4", train__steps=7)
    flat = [flatten(config_to_dict(cell.config)) for cell in grid.cells]
    shared = [{k: v for k, v in each.items() if not k.startswith("method.")} for each in flat]
    differing = {key for key in shared[0] if len({repr(each[key]) for each in shared}) > 1}
    assert differing == {"seed", "run", "data.labeled", "data.unlabeled"}
    assert {each["train.steps"] for each in flat} == {7}


def test_every_method_gets_the_same_labelled_batches_for_a_seed_and_as_many(root):
    grid = of_folder(root, train__steps=5, train__workers=0, augment__crop_height=32, augment__crop_width=32)
    seen = {}
    for cell in grid.cells:
        config = cell.config
        batches = training_batches(
            open_dataset(config.data), config.data, config.augment, config.train,
            seed=config.seed, start=0, use_unlabeled=METHODS[cell.method].uses_unlabeled, device=pick_device("cpu"),
        )  # fmt: skip
        seen[cell.method, cell.seed] = [tuple(part.numpy().tobytes() for part in step[0][:3]) for step in batches]
    for seed in (0, 1):
        assert len(seen["supervised", seed]) == 5
        assert all(seen[method, seed] == seen["supervised", seed] for method in METHODS)
    assert seen["supervised", 0] != seen["supervised", 1]


def test_a_method_takes_the_options_that_it_has(root):
    grid = of_folder(root, methods="cutmix,mean_teacher,prototype", seeds="0", method__threshold="0.5")
    found = {cell.method: getattr(cell.config.method_options, "threshold", None) for cell in grid.cells}
    assert found == {"supervised": None, "cutmix": 0.5, "mean_teacher": None, "prototype": 0.5}


def test_the_command_makes_the_same_grid(root):
    grid = make_grid("folder", ["cutmix"], ["2"], [0, 1], Path("my runs"), {"data.root": root, "data.cache": True})
    assert grid.command == (
        f"semiseg compare folder --methods cutmix --labeled 2 --seeds 0,1 --out 'my runs' --data.root {root} "
        "--data.cache true"
    )


# What names labels ----------------------------------------------------------------------------------------------------


def lists(grid: Grid) -> dict[str, list[str]]:
    dataset = open_dataset(grid.cells[0].config.data)
    return {name: sorted(images.names) for name, images in dataset.image_sets.items()}


def test_a_split_of_the_folder_brings_its_unlabelled_images_and_val_txt_validates(root):
    found = lists(of_folder(root, "4"))
    assert found == {"labeled": ["m0", "m1", "m2", "m3"], "unlabeled": ["u0", "u1"], "val": ["m8", "m9"]}


def test_a_list_file_is_a_set_of_labels_too(root):
    (root / "mine.txt").write_text("m5\n")
    grid = of_folder(root, "mine.txt,splits/4/labeled.txt")
    assert grid.labels == ("mine", "4")
    assert lists(grid)["labeled"] == ["m5"]
    assert len(lists(grid)["unlabeled"]) == 12  # every image in no other list
    assert grid.cells[-1].config.data.unlabeled == "splits/4/unlabeled.txt"


def test_unlabelled_images_that_were_named_stay(root):
    (root / "more.txt").write_text("u2\n")
    assert lists(of_folder(root, "2", data__unlabeled="more.txt"))["unlabeled"] == ["u2"]


def test_without_splits_a_number_is_how_many_and_without_words_the_recipe_says(tmp_path):
    filled(tmp_path)
    assert len(lists(of_folder(tmp_path, "3"))["labeled"]) == 3
    assert of_folder(tmp_path, None).labels == ("all",)
    assert of_folder(tmp_path, "3").cells[0].config.data.labeled_count == 3


def test_published_splits_by_name_or_by_its_end():
    for words in ("u2pl/pascal/183", "183"):
        grid = make_grid("voc-classic", "cutmix", words)
        assert (grid.labels, grid.config.data.split) == (("u2pl/pascal/183",), "u2pl/pascal/183")
        assert grid.cells[0].name == "u2pl-pascal-183-supervised-seed0"
    assert make_grid("voc-classic", "cutmix", "1_8").config.data.split == "unimatch/pascal/1_8"
    assert make_grid("cityscapes", "cutmix", "372").config.data.split == "u2pl/cityscapes/372"
    assert make_grid("voc-classic", "cutmix").labels == ("u2pl/pascal/92",)


def test_scenes_are_drawn():
    assert make_grid("demo", "cutmix", "5").config.data.scenes.labeled == 5
    assert make_grid("demo", "cutmix").labels == ("12",)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ({"methods": "cutmx"}, r"--methods: there is no method 'cutmx'; did you mean cutmix\?"),
        ({"methods": ","}, "--methods names none; expected all, or some of supervised"),
        ({"seeds": "0,one"}, "--seeds is '0,one'; expected whole numbers from 0"),
        ({"seeds": "-1"}, "--seeds is '-1'"),
        (
            {"labeled": "3"},
            r"--labeled 3: there is neither a list file of that name nor .*splits/3/labeled.txt; .*2, 4",
        ),
        ({"labeled": "2,splits/2/labeled.txt"}, "two of these are called '2'"),
        ({"method__treshold": "1"}, "--method.treshold: none of the compared methods has such an option; did you mean"),
        ({"methods": "supervised", "method__threshold": "1"}, "none of the compared .*belongs to --method cutmix"),
        ({"method__threshold": "high"}, "--method.threshold is 'high'; expected a number"),
        ({"method": "cutmix"}, "--method: a comparison has this of its own; use --methods"),
        ({"seed": 3}, "--seed: .*use --seeds"),
        ({"data__labeled_count": 3}, "--data.labeled_count: .*use --labeled"),
        ({"train__devices": 2}, "--train.devices: a comparison gives each run one device; --jobs"),
        ({"train__stepz": 2}, "did you mean train.steps"),
    ],
)
def test_wrong_words_are_told_with_their_repair(root, words, pattern):
    flat = {"data.root": root, **{key.replace("__", "."): value for key, value in words.items() if key not in ASKED}}
    asked = {"labeled": "2", **{key: value for key, value in words.items() if key in ASKED}}
    with pytest.raises(ConfigError, match=pattern):
        make_grid("folder", overrides=flat, **asked)


ASKED = ("methods", "labeled", "seeds")


@pytest.mark.parametrize(
    ("recipe", "labeled", "pattern"),
    [
        ("voc-classic", "93", "--labeled 93: neither a list file nor a published split; .*u2pl/pascal/92"),
        ("cityscapes", "92", "neither a list file nor a published split"),
        ("demo", "few", "--labeled few: of drawn scenes only a number says"),
        ("foldr", None, "there is no recipe 'foldr'"),
    ],
)
def test_wrong_labels_of_other_data(recipe, labeled, pattern):
    with pytest.raises(ConfigError, match=pattern):
        make_grid(recipe, "cutmix", labeled)


def test_a_number_is_wanted_where_a_folder_has_no_splits(tmp_path):
    filled(tmp_path)
    with pytest.raises(ConfigError, match=r"nor a folder .*splits; otherwise only a number says"):
        of_folder(tmp_path, "few")
    with pytest.raises(ConfigError, match=r"data.root is .*nowhere, which is no folder"):
        of_folder(tmp_path / "nowhere", "3")


# What is published ----------------------------------------------------------------------------------------------------


def test_published_figures_are_of_published_splits_and_known_methods():
    assert set(METHOD_OPTIONS) <= set(NAMES)
    for splits, source, rows in _TABLES:
        assert set(splits) <= set(PUBLISHED)
        assert source
        assert set(rows) <= set(NAMES)
        for row in rows.values():
            assert len(row) == len(splits)
            assert all(miou is None or 40 < miou < 95 for miou in row)
    cells = [(method, split) for splits, _, rows in _TABLES for method in rows for split in splits]
    assert len(set(cells)) == len(cells)  # no figure hides another


@pytest.mark.parametrize(
    ("method", "split", "miou", "source"),
    [
        ("prototype", "u2pl/pascal/92", 70.06, "Table 1"),
        ("pseudoseg", "u2pl/pascal/1464", 73.23, "Table 1"),
        ("ael", "u2pl/pascal/2646", 78.06, "Table 2"),
        ("gct", "u2pl/cityscapes/372", 72.66, "Table 3"),
        ("unimatch", "unimatch/pascal/1_8", 77.4, "UniMatch"),
        ("unimatch", "u2pl/pascal/1323", 81.92, "UniMatch"),
        ("unimatch_v2", "u2pl/pascal/183", 87.9, "DINOv2-B"),
    ],
)
def test_some_figures_as_they_stand_in_their_source(method, split, miou, source):
    found = published(method, split)
    assert found is not None
    assert found.miou == miou
    assert source in found.source


def test_nothing_is_published_for_other_rows():
    assert published("prototype", None) is None
    assert published("ael", "u2pl/pascal/92") is None
    assert published("unimatch", "u2pl/pascal/5291") is None


def test_the_two_blenders_are_told_apart_and_every_split_has_words():
    assert (is_blender("u2pl/pascal/662"), is_blender("unimatch/pascal/1_16")) == ("U2PL", "CPS")
    assert is_blender("u2pl/pascal/1464") is None
    assert "662 are finely annotated (all)" in meaning("u2pl/pascal/662")
    assert "of 662 labelled images 93 are finely annotated" in meaning("unimatch/pascal/1_16")
    assert meaning("u2pl/pascal/92").startswith("classic: 92 labelled images")
    assert meaning("u2pl/cityscapes/372") == "372 labelled images, U2PL's list of 13 May 2022"
    for splits, words in _MEANINGS.items():
        counts = [str(PUBLISHED[split].labeled.count) for split in splits]
        assert all(count in each for count, each in zip(counts, words, strict=True))
    assert np.all([meaning(split) for split in PUBLISHED])
