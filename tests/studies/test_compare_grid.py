"""Which runs a comparison is made of, what its words may name, and what is published for a row."""

from pathlib import Path
from types import SimpleNamespace

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
from semiseg.studies import asked
from semiseg.studies.comparison import make_comparison
from semiseg.studies.published import is_blender, meaning, published
from semiseg.studies.study import Study


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


def of_folder(root: Path, labeled: str | None = "2", methods: str = "all", seeds: str = "0,1", **overrides) -> Study:
    flat = {"data.root": root, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return make_comparison("folder", methods, labeled, seeds, None, flat)


# The runs -------------------------------------------------------------------------------------------------------------


def test_there_is_a_run_for_each_method_labels_and_seed_the_references_first(root):
    study = of_folder(root, "2,4", "cutmix,supervised")
    names = [cell.name for cell in study.cells]
    assert names == [
        f"{labels}-{method}-seed{seed}" for seed in (0, 1) for labels in (2, 4) for method in ("supervised", "cutmix")
    ]
    assert study.out == Path("runs/compare-folder")
    assert all(cell.config.run_folder == study.out / cell.name for cell in study.cells)
    assert not study.reference_added
    assert of_folder(root, methods="cutmix").reference_added
    assert [row.key for row in of_folder(root, methods="cutmix").rows] == ["supervised", "cutmix"]


def test_all_are_all_methods(root):
    assert {row.method for row in of_folder(root).rows} == set(METHOD_OPTIONS)


def test_runs_differ_in_what_was_asked_for_and_in_nothing_else(root):
    study = of_folder(root, "2,4", train__steps=7)
    flat = [flatten(config_to_dict(cell.config)) for cell in study.cells]
    shared = [{k: v for k, v in each.items() if not k.startswith("method.")} for each in flat]
    differing = {key for key in shared[0] if len({repr(each[key]) for each in shared}) > 1}
    assert differing == {"seed", "run", "data.labeled", "data.unlabeled"}
    assert {each["train.steps"] for each in flat} == {7}


def test_every_method_gets_the_same_labelled_batches_for_a_seed_and_as_many(root):
    study = of_folder(root, train__steps=5, train__workers=0, augment__crop_height=32, augment__crop_width=32)
    seen = {}
    for cell in study.cells:
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
    study = of_folder(root, methods="cutmix,mean_teacher,prototype", seeds="0", method__threshold="0.5")
    found = {cell.method: getattr(cell.config.method_options, "threshold", None) for cell in study.cells}
    assert found == {"supervised": None, "cutmix": 0.5, "mean_teacher": None, "prototype": 0.5}


@pytest.mark.parametrize(
    ("given", "fixmatch"),
    [({}, set()), ({"prototypes": "true"}, {"prototypes", "prototypes.grid"}), ({"prototypes": False}, {"prototypes"})],
)
def test_options_of_prototypes_turn_none_on_where_they_are_off(monkeypatch, given, fixmatch):
    """Of three methods one has prototypes by default, one can have them, and one cannot."""
    options = {"prototype": SimpleNamespace(prototypes=object()), "fixmatch": SimpleNamespace(prototypes=None)}
    known = {
        "prototype": {"prototypes", "prototypes.grid"},
        "fixmatch": {"prototypes", "prototypes.grid"},
        "cct": set(),
    }
    monkeypatch.setattr(asked, "METHOD_OPTIONS", {name: lambda name=name: options.get(name) for name in known})
    monkeypatch.setattr(asked, "option_types", lambda name: dict.fromkeys(known[name]))
    flat = {"train.steps": 3, "prototypes.grid": "8", **given}
    taken = {name: set(asked.for_method(flat, name)) - {"train.steps"} for name in known}
    assert taken == {"prototype": {"prototypes.grid", *given}, "fixmatch": fixmatch, "cct": set()}
    asked.check_options(flat, ["prototype", "cct"])
    if "prototypes" not in given:
        with pytest.raises(ConfigError, match=r"--prototypes.grid: .*by default; add --prototypes true"):
            asked.check_options(flat, ["fixmatch", "cct"])


def test_the_command_makes_the_same_grid(root):
    study = make_comparison(
        "folder", ["cutmix"], ["2"], [0, 1], Path("my runs"), {"data.root": root, "data.cache": True}
    )
    assert study.command == (
        f"semiseg compare folder --methods cutmix --labeled 2 --seeds 0,1 --out 'my runs' --data.root {root} "
        "--data.cache true"
    )


# What names labels ----------------------------------------------------------------------------------------------------


def lists(study: Study) -> dict[str, list[str]]:
    dataset = open_dataset(study.cells[0].config.data)
    return {name: sorted(images.names) for name, images in dataset.image_sets.items()}


def test_a_split_of_the_folder_brings_its_unlabelled_images_and_val_txt_validates(root):
    found = lists(of_folder(root, "4"))
    assert found == {"labeled": ["m0", "m1", "m2", "m3"], "unlabeled": ["u0", "u1"], "val": ["m8", "m9"]}


def test_a_list_file_is_a_set_of_labels_too(root):
    (root / "mine.txt").write_text("m5\n")
    study = of_folder(root, "mine.txt,splits/4/labeled.txt")
    assert study.labels == ("mine", "4")
    assert lists(study)["labeled"] == ["m5"]
    assert len(lists(study)["unlabeled"]) == 12  # every image in no other list
    assert study.cells[-1].config.data.unlabeled == "splits/4/unlabeled.txt"


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
        study = make_comparison("voc-classic", "cutmix", words)
        assert (study.labels, study.config.data.split) == (("u2pl/pascal/183",), "u2pl/pascal/183")
        assert study.cells[0].name == "u2pl-pascal-183-supervised-seed0"
    assert make_comparison("voc-classic", "cutmix", "1_8").config.data.split == "unimatch/pascal/1_8"
    assert make_comparison("cityscapes", "cutmix", "372").config.data.split == "u2pl/cityscapes/372"
    assert make_comparison("voc-classic", "cutmix").labels == ("u2pl/pascal/92",)


def test_scenes_are_drawn():
    assert make_comparison("demo", "cutmix", "5").config.data.scenes.labeled == 5
    assert make_comparison("demo", "cutmix").labels == ("12",)


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
        make_comparison("folder", overrides=flat, **asked)


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
        make_comparison(recipe, "cutmix", labeled)


def test_a_number_is_wanted_where_a_folder_has_no_splits(tmp_path):
    filled(tmp_path)
    with pytest.raises(ConfigError, match=r"nor a folder .*splits; otherwise only a number says"):
        of_folder(tmp_path, "few")
    with pytest.raises(ConfigError, match=r"data.root is .*nowhere, which is no folder"):
        of_folder(tmp_path / "nowhere", "3")


# What is published ----------------------------------------------------------------------------------------------------


def test_a_figure_is_found_by_its_method_and_split():
    found = published("unimatch", "unimatch/pascal/1_8")
    assert found is not None
    assert (found.miou, found.source.partition(",")[0]) == (77.4, "UniMatch")


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
    assert all(str(split.labeled.count) in meaning(name) for name, split in PUBLISHED.items())
