"""The shipped recipes: each loads for every method and preset, says what it is, and keeps the paper's arithmetic."""

import json
import re
from importlib.resources import files

import pytest
import yaml

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.recipe import RECIPES, load_config, shipped_recipes

NAMES = ("camvid", "cityscapes", "demo", "folder", "voc-blender", "voc-classic")
PUBLISHED = json.loads(files("semiseg.data").joinpath("published_splits.json").read_text("utf-8"))
EPOCHS = {"voc-classic": 80, "voc-blender": 80, "cityscapes": 200}


def text(name):
    return (RECIPES / f"{name}.yaml").read_text("utf-8")


def presets(name):
    return yaml.safe_load(text(name)).get("presets", {})


def unlabeled_count(split):
    return PUBLISHED["lists"][PUBLISHED["splits"][split]["unlabeled"]]["count"]


def epoch(split):
    """Steps of one pass over the unlabelled images, as U2PL's 8 GPUs with 2 images each take them."""
    per_gpu = -(-unlabeled_count(split) // 8)
    return per_gpu // 2


def test_these_are_shipped():
    assert tuple(shipped_recipes()) == NAMES


@pytest.mark.parametrize("method", METHOD_OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_and_preset_loads_for_every_method(name, method):
    for preset in [None, *presets(name)]:
        config = load_config(name, {"method": method} | ({"preset": preset} if preset else {}))
        assert (config.recipe, config.method) == (name, method)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_opens_with_what_it_is_its_command_time_and_result(name):
    opening = text(name).partition("\nmethod:")[0]
    assert re.match(r"# \w+", opening)
    assert f"semiseg train {name}" in opening
    assert "\n# Time: " in opening
    assert "\n# Result: " in opening


@pytest.mark.parametrize("name", EPOCHS)
def test_steps_of_every_split_in_the_comment_are_whole_epochs(name):
    family = "cityscapes" if name == "cityscapes" else "pascal"
    rows = re.findall(r"(?:N = |; )(\d+): (?:S )?(\d+), (?:E )?(\d+)", text(name))
    assert len(rows) == {"voc-classic": 5, "voc-blender": 4, "cityscapes": 4}[name]
    for count, steps, evaluate_every in rows:
        one = epoch(f"u2pl/{family}/{count}")
        assert (int(steps), int(evaluate_every)) == (EPOCHS[name] * one, one), count


@pytest.mark.parametrize("name", EPOCHS)
def test_the_default_split_is_published_and_trained_for_its_epochs(name):
    config = load_config(name)
    one = epoch(config.data.split)
    assert (config.train.steps, config.train.evaluate_every) == (EPOCHS[name] * one, one)
    assert round(config.method_options.warmup * config.train.steps) == one
    assert config.train.batch_labeled == config.train.batch_unlabeled == 16
    assert config.preset == "release"


@pytest.mark.parametrize("name", EPOCHS)
def test_presets_differ_where_the_text_and_the_release_do(name):
    release, paper = (load_config(name, {"preset": preset}) for preset in ("release", "paper"))
    assert (release.optim.power, paper.optim.power) == (0.9, 0.8)
    assert (release.loss.kind, paper.loss.kind) == ("ohem", "ce")
    assert (release.method_options.prototypes.update, paper.method_options.prototypes.update) == ("mean", "per_pixel")
    assert (release.method_options.mix_probability, paper.method_options.mix_probability) == (0.5, 1.0)
    assert (release.method_options.prototypes.grid, paper.method_options.prototypes.grid) == (32, None)
    assert release.loss.ohem_min_kept == 100_000 * 16 // 2  # U2PL's is of one GPU's 2 crops
    cityscapes = name == "cityscapes"
    assert (release.network.aux, paper.network.aux) == (cityscapes, False)
    protocols = ("slide", "slide") if cityscapes else ("whole", "crop")
    assert (release.evaluation.protocol, paper.evaluation.protocol) == protocols


@pytest.mark.parametrize("name", EPOCHS)
@pytest.mark.parametrize("preset", ["release", "paper"])
def test_optimiser_of_every_preset(name, preset):
    optim = load_config(name, {"preset": preset}).optim
    expected = (1e-2, 5e-4, 1) if name == "cityscapes" else (1e-3, 1e-4, 10)
    assert (optim.kind, optim.momentum) == ("sgd", 0.9)
    assert (optim.lr, optim.weight_decay, optim.head_lr_factor) == expected


@pytest.mark.parametrize("name", ["voc-classic", "voc-blender"])
@pytest.mark.parametrize("preset", ["release", "paper"])
def test_voc_threshold_and_prototypes(name, preset):
    options = load_config(name, {"preset": preset}).method_options
    assert (options.threshold, options.prototypes) == (
        0.8,
        PrototypesOptions(grid=32 if preset == "release" else None, update=options.prototypes.update),
    )


def test_cityscapes_threshold_and_prototypes_are_the_releases():
    release, paper = (load_config("cityscapes", {"preset": preset}).method_options for preset in ("release", "paper"))
    assert (release.threshold, release.prototypes.per_class) == (0.65, 3)
    assert (paper.threshold, paper.prototypes.per_class) == (0.8, 4)


@pytest.mark.parametrize(
    ("name", "labeled", "per_epoch"), [("voc-classic", 92, -(-92 // 16)), ("voc-blender", 662, -(-662 // 16))]
)
def test_suponly_is_as_short_as_u2pls_supervised_run(name, labeled, per_epoch):
    """U2PL's supervised loader neither tiles the labelled list nor drops the last batch."""
    config = load_config(name, {"preset": "suponly"})
    assert config.data.split == f"u2pl/pascal/{labeled}"
    assert (config.method, config.loss.kind, config.train.steps) == ("supervised", "ce", 80 * per_epoch)


@pytest.mark.parametrize(
    ("name", "epochs", "size"), [("voc-classic", 60, 16), ("voc-blender", 60, 16), ("cityscapes", 180, 8)]
)
def test_dinov2_is_the_setting_of_unimatch_v2(name, epochs, size):
    config = load_config(name, {"preset": "dinov2"})
    one = epoch(config.data.split) * 16 // size
    train, optim = config.train, config.optim
    assert (train.batch_labeled, train.batch_unlabeled) == (size, size)
    assert (train.steps, train.evaluate_every, train.checkpoint_every) == (epochs * one, one, one)
    assert round(config.method_options.warmup * train.steps) == one
    assert (optim.kind, optim.lr, optim.head_lr_factor, optim.weight_decay, optim.power) == (
        "adamw",
        5e-6,
        40,
        0.01,
        0.9,
    )
    assert (config.network.name, config.network.channels, config.network.dropout) == ("dpt", 64, 0)
    assert (config.network.weights, config.network.aux) == ("hub", False)
    cityscapes = name == "cityscapes"
    assert (config.augment.crop_height, config.augment.crop_width) == ((798, 798) if cityscapes else (518, 518))
    assert (config.loss.kind, config.evaluation.protocol) == (("ohem", "slide") if cityscapes else ("ce", "whole"))
    if cityscapes:
        assert (config.loss.ohem_threshold, config.loss.ohem_min_kept) == (0.7, 200_000 * 8 // 2)
        assert config.evaluation.window == 798


@pytest.mark.parametrize("name", ["folder", "camvid"])
def test_a_small_vit_from_the_hub_for_your_own_images(name):
    config = load_config(name, {"preset": "vit"})
    assert (config.network.name, config.network.encoder) == ("dpt", "vit_small_patch14_dinov2")
    assert (config.network.weights, config.optim.kind, config.train.precision) == ("hub", "adamw", "bf16")
    assert (config.data.scale, config.evaluation.protocol) == (1, "whole")


@pytest.mark.parametrize("name", ["demo", "folder", "camvid"])
def test_small_recipes_need_no_download(name):
    config = load_config(name)
    assert config.network.weights == "none"
    assert config.data.split is None
