"""Every cell of every table: that it loads, its steps, what the paper says of it, and which run it shares."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.folders import filled

from semiseg.config.fields import ConfigError
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.recipe import load_config, option_values
from semiseg.data.splits import PUBLISHED
from semiseg.studies.paper.grid import make_reproduction
from semiseg.studies.paper.rows import other_rows, title_of
from semiseg.studies.paper.tables import TABLES, find_table
from semiseg.studies.published import DISCRIMINATION
from semiseg.studies.study import Study

# Copied from the paper's own schedule, worked out by hand: labelled -> steps of an epoch, all steps.
VOC = {
    92: (656, 52_480),
    183: (650, 52_000),
    366: (638, 51_040),
    732: (616, 49_280),
    1464: (570, 45_600),
    662: (620, 49_600),
    1323: (579, 46_320),
    2646: (496, 39_680),
    5291: (331, 26_480),
}
STREETS = {186: (174, 34_800), 372: (163, 32_600), 744: (139, 27_800), 1488: (93, 18_600)}
SHORT = {
    "voc": {92: 480, 183: 960, 366: 1840, 732: 3680, 1464: 7360, 662: 3360},
    "cityscapes": {186: 2400, 372: 4800, 744: 9400, 1488: 18_600},
}

EVERY = [
    (name, dataset, scale)
    for name, table in TABLES.items()
    for dataset in table.data
    for scale in ("full", "half", "cpu")
    if dataset != "camvid" or scale == "cpu"
]


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with splits of 2, 8 and 9 labels."""
    filled(tmp_path)
    for count in (2, 8, 9):
        folder = tmp_path / "splits" / str(count)
        folder.mkdir(parents=True)
        (folder / "labeled.txt").write_text("".join(f"m{number}\n" for number in range(count)))
        (folder / "unlabeled.txt").write_text("u0\nu1\nu2\n")
    (tmp_path / "val.txt").write_text("m9\n")
    return tmp_path


def labels_of(cell) -> int:
    return PUBLISHED[cell.config.data.split].labeled.count


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dataset", "scale"), EVERY)
def test_every_cell_loads(name, dataset, scale):
    made = make_reproduction(name, dataset, scale)
    assert set(made.runs) == {
        (row.key, label, seed) for row in made.rows for label in made.labels for seed in made.seeds
    }
    assert made.seeds == ((0, 1) if scale == "cpu" else (0,))
    for (key, _, seed), cell in made.runs.items():
        row = next(row for row in made.table.rows if row.key == key)
        assert (cell.config.method, cell.config.seed) == (row.method, seed)
        assert cell.config.run == made.out / cell.name
        for option, value in row.options.items():
            assert option_values(cell.config)[option] == value


@pytest.mark.parametrize("preset", ["release", "paper"])
@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_steps_are_those_of_the_papers_epochs(name, preset):
    made = make_reproduction(name, preset=preset)
    known = STREETS if made.dataset == "cityscapes" else VOC
    for (key, _, _), cell in made.runs.items():
        train, count = cell.config.train, labels_of(cell)
        epoch, steps = known[count]
        if key == "supervised-short":
            assert train.steps == SHORT[made.dataset].get(count, train.steps)
        else:
            assert (train.evaluate_every, train.checkpoint_every, train.steps) == (epoch, epoch, steps)
        assert cell.config.preset == preset
        assert (train.batch_labeled, train.batch_unlabeled) == (16, 16)


def test_the_table_of_classic_lists_has_all_five_and_that_of_blender_lists_both_kinds():
    classic, blender, streets = (make_reproduction(name) for name in ("table1", "table2", "table3"))
    assert [labels_of(classic.runs["prototype", label, 0]) for label in classic.labels] == [92, 183, 366, 732, 1464]
    counts = [labels_of(blender.runs["prototype", label, 0]) for label in blender.labels]
    assert counts == [662, 1323, 2646, 5291, 662, 1323, 2646]
    assert [label.startswith("unimatch") for label in blender.labels] == [False] * 4 + [True] * 3
    assert [labels_of(streets.runs["prototype", label, 0]) for label in streets.labels] == [186, 372, 744, 1488]


def test_half_has_half_of_each_side_and_half_the_epochs():
    full, half = (
        make_reproduction("table1", scale=scale).runs["prototype", "u2pl/pascal/92", 0] for scale in ("full", "half")
    )
    assert 2 * half.config.train.steps == full.config.train.steps
    assert half.config.train.evaluate_every == full.config.train.evaluate_every
    assert half.config.network == replace(full.config.network, encoder="resnet50s")
    assert (half.config.augment.crop_height, half.config.data.scale, half.config.evaluation.window) == (257, 0.5, 257)
    assert half.config.loss.ohem_min_kept == pytest.approx(full.config.loss.ohem_min_kept * (257 / 513) ** 2, rel=0.01)


def test_steps_may_be_chosen_but_those_of_the_short_baseline():
    made = make_reproduction("table1", overrides={"train.steps": 100})
    assert {cell.config.train.steps for (key, _, _), cell in made.runs.items() if key != "supervised-short"} == {100}
    assert made.runs["supervised-short", "u2pl/pascal/92", 0].config.train.steps == 480


# Rows -----------------------------------------------------------------------------------------------------------------


def test_a_method_registered_at_run_time_has_a_row_where_all_methods_are_listed(monkeypatch):
    class Mine:
        """Mine and nobody else's (me, 2026): a method."""

    @dataclass
    class Silent:
        weight: float = 1.0

    monkeypatch.setitem(METHOD_OPTIONS, "mine", Mine)
    monkeypatch.setitem(METHOD_OPTIONS, "silent", Silent)
    for name, table in TABLES.items():
        titles = {row.method: row.title for row in find_table(name).rows}
        assert titles.get("mine") == ("Mine and nobody else's (not in the paper)" if table.all_methods else None)
    assert {name for name, table in TABLES.items() if table.all_methods} == {"table1", "table2", "table3"}
    assert title_of("silent") == "silent"


def test_every_method_has_a_row_in_some_main_table_once():
    listed = {row.method for number in (1, 2, 3) for row in TABLES[f"table{number}"].rows}
    other = {row.method for row in other_rows()}
    assert listed | other == set(METHOD_OPTIONS)
    assert not listed & other


def test_the_published_ratio_is_that_of_the_published_variances():
    for ratio, inter, intra in DISCRIMINATION.values():
        assert inter / intra == pytest.approx(ratio, abs=0.006)


def test_a_rows_reference_is_a_row():
    for table in map(find_table, TABLES):
        keys = [row.key for row in table.rows]
        assert len(set(keys)) == len(keys)
        assert {table.reference, *(row.reference for row in table.rows if row.reference)} <= set(keys)


def test_on_voc_hard_pixels_are_for_the_papers_method_alone():
    made = make_reproduction("table1")
    kinds = {cell.config.method: cell.config.loss.kind for cell in made.cells}
    assert {method for method, kind in kinds.items() if kind == "ohem"} == {"prototype"}
    assert {cell.config.loss.kind for cell in make_reproduction("table3").cells} == {"ohem"}


def test_a_row_stands_over_what_the_recipe_says_of_its_method(root):
    made = make_reproduction("table6", "folder", "cpu", overrides={"data.root": root})
    options = made.runs["cutout/ours", "8", 0].config.method_options
    recipe = load_config("folder").method_options
    assert options == replace(
        recipe, mix="cutout", prototypes=PrototypesOptions()
    )  # the paper's, whatever the recipe has
    assert options.strong


def test_at_cpu_scale_the_papers_data_have_the_recipe_of_a_folder():
    made = make_reproduction("table1", scale="cpu", only="prototype,cutmix")
    own = load_config("folder", {"method": "prototype"})
    config = made.runs["prototype", "u2pl/pascal/92", 0].config
    assert config.method_options == replace(
        own.method_options, mix="cutmix", prototypes=PrototypesOptions()
    )  # likewise
    assert (config.network, config.augment, config.optim) == (own.network, own.augment, own.optim)
    assert (config.data.dataset, config.data.split, config.train.steps) == ("voc", "u2pl/pascal/92", 600)


def test_at_cpu_scale_camvid_too_has_the_papers_prototypes(root):
    made = make_reproduction("table4", "camvid", "cpu", overrides={"data.root": root})
    options = [cell.config.method_options for cell in made.cells if cell.config.method == "prototype"]
    assert {each.mix for each in options} == {"cutmix"}
    used = [each.prototypes for each in options if each.prototypes is not None]
    assert {(each.momentum, each.weight) for each in used} == {(0.99, 1.0)}


# Runs that tables share -----------------------------------------------------------------------------------------------


def reproductions(dataset: str, scale: str, **given) -> list[Study]:
    return [make_reproduction(name, dataset, scale, **given) for name in TABLES if dataset in TABLES[name].data]


@pytest.mark.parametrize(
    ("dataset", "scale"), [("voc", "full"), ("voc", "cpu"), ("cityscapes", "full"), ("camvid", "cpu")]
)
def test_one_folder_is_one_run_over_all_tables(dataset, scale):
    by_name, by_config = {}, {}
    for made in reproductions(dataset, scale):
        for cell in made.cells:
            config = replace(cell.config, recipe="any")  # the same words stand in two recipes
            assert by_name.setdefault(cell.name, config) == config
            by_config.setdefault(repr(replace(config, run=None)), set()).add(cell.name)
    assert all(len(names) == 1 for names in by_config.values())


def test_names_of_runs(root):
    flat = {"data.root": root}

    def names(table: str) -> list[str]:
        return [cell.name for cell in make_reproduction(table, "folder", "cpu", seeds="0", overrides=flat).cells]

    assert names("table4") == [
        f"8-prototype{own}-seed0" for own in ("-prototypes-off", "-linear-off", "-update-none", "")
    ]
    assert "8-prototype-threshold0.9-seed0" in names("table7")
    assert "8-u2pl-mix-classmix-seed0" in names("table6")
    assert "8-prototype-grid-none-seed0" in names("points")
    for table in ("table4", "table5", "table7", "figure3", "temperature", "points"):
        assert "8-prototype-seed0" in names(table)


def test_a_value_that_is_the_presets_own_leaves_no_mark():
    """On Cityscapes the released configuration has 3 prototypes and a threshold of 0.65."""
    made = make_reproduction("figure3", "cityscapes", "full")
    assert made.runs["3", "u2pl/cityscapes/186", 0].name == "u2pl-cityscapes-186-prototype-seed0"
    assert made.runs["4", "u2pl/cityscapes/186", 0].name == "u2pl-cityscapes-186-prototype-per_class4-seed0"


def test_labels_of_a_folder_are_the_smallest_split_that_fills_a_batch(root):
    flat = {"data.root": root}
    assert make_reproduction("table4", "folder", "cpu", overrides=flat).labels == ("8",)
    assert make_reproduction("table4", "folder", "cpu", overrides=flat | {"train.batch_labeled": 9}).labels == ("9",)
    assert make_reproduction("table4", "folder", "cpu", overrides=flat | {"train.batch_labeled": 20}).labels == ("9",)
    assert make_reproduction("table4", "folder", "cpu", labeled="2,9", overrides=flat).labels == ("2", "9")


def test_presets_do_not_share_a_folder():
    outs = {make_reproduction("table1", preset=preset).out for preset in (None, "release", "paper")}
    assert outs == {Path("runs/reproduce-voc-full"), Path("runs/reproduce-voc-full-paper")}


# What was asked for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"name": "tabel4"}, "no table or figure 'tabel4'; did you mean table4?"),
        ({"name": "table4", "only": "ful"}, "table4 has no such row; did you mean full?"),
        ({"name": "table7", "only": "0.5"}, "table7 has no such row"),
        ({"name": "table4", "only": ","}, "no such row"),
        ({"name": "table3", "dataset": "voc"}, "table3 is of cityscapes. .*: semiseg compare voc"),
        ({"name": "table4", "dataset": "camvid", "scale": "half"}, "camvid is for a CPU; use --scale cpu"),
        ({"name": "table1", "preset": "paper", "scale": "cpu"}, "--preset paper: .*not of voc at cpu; leave it out"),
        ({"name": "table1", "only": "supervised-short", "scale": "half"}, "has no such row"),
        ({"name": "table1", "seeds": "a"}, "--seeds"),
        ({"name": "table7", "overrides": {"method.threshold": "0.9"}}, "rows of table7 set this; .*--only"),
        ({"name": "table4", "overrides": {"method.thresold": "0.9"}}, "did you mean method.threshold?"),
        ({"name": "table4", "overrides": {"seed": 3}}, "use --seeds"),
        ({"name": "table4", "overrides": {"data.split": "u2pl/pascal/92"}}, "use --labeled"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_what_to_do(words, expected):
    with pytest.raises(ConfigError, match=re.compile(expected.replace("?", r"\?"))):
        make_reproduction(**words)


def test_only_takes_rows_and_groups_of_rows():
    made = make_reproduction("table7", only="0.95,0.70/prototype")
    assert [row.key for row in made.rows] == ["0.95/linear", "0.95/prototype", "0.70/prototype"]
    assert len(made.cells) == 2


def test_the_command_makes_the_same_reproduction(root):
    made = make_reproduction(
        "figure3", "folder", "cpu", only="1,4", seeds="2", overrides={"data.root": root, "train.workers": 0}
    )
    assert made.command == (
        "semiseg reproduce figure3 --dataset folder --scale cpu --only 1,4 --seeds 2 "
        f"--data.root {root} --train.workers 0"
    )


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "semiseg.cli", "reproduce", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tabel4",), "did you mean table4?"),
        (("table4", "--only", "ful"), "did you mean full?"),
        (("table3", "--dataset", "voc"), "table3 is of cityscapes"),
        (("table4", "--preset", "papr"), "papr"),
        (("table4", "--data.rot", "x"), "--data.root"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_a_line_and_status_2(words, expected):
    done = run(*words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_help_says_what_there_is():
    done = run("table4", "--help")
    assert done.returncode == 0
    for word in ("--plan", "--scale", "--only", "--jobs", "--data.root", "--steps", "--help-all"):
        assert word in done.stdout
    assert "--method.threshold" not in done.stdout
    everything = run("table4", "--help-all")
    assert everything.returncode == 0
    assert "--method.threshold" in everything.stdout
