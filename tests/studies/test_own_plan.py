"""The plan of a training on a folder: a table of cases, what holds of every plan, and the time it takes."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.config.options import DataOptions
from semiseg.config.recipe import load_config, option_values
from semiseg.studies.own.facts import Facts, words_of
from semiseg.studies.own.folds import make_folds
from semiseg.studies.own.plan import LADDER, OBJECT, Machine, settle
from semiseg.studies.own.schedule import FOLDS, REPORT, SAVING, Speed, duration, in_words, minutes_of, schedule
from semiseg.studies.own.trainings import Plan, as_baseline, read_plan, recipe_text, with_steps, write_plan

GB = 10**9
LAPTOP = Machine(cores=2, memory=8 * GB)
SERVER = Machine(cores=16, memory=64 * GB, gpu="Big GPU", gpu_memory=80 * GB)
SPEED = Speed(supervised=0.2, unlabeled=0.5, image=0.1, start=2.0)
DATA = DataOptions(root=Path("photos"))


def facts(height=480, width=640, masks=12, unlabeled=200, classes=("ground", "thing"), **more):
    ids = tuple(f"m{number:04d}" for number in range(masks))
    val = ids[: max(1, round(0.2 * masks))]
    fixed = {"name": "photos", "shares": (0.9, 0.1), "object_side": 60.0}
    return Facts(height=height, width=width, classes=classes, masks=ids, val=val, unlabeled=unlabeled, **fixed | more)


def planned(found, machine=LAPTOP, **given):
    return settle(found, machine, DATA, {key.replace("__", "."): value for key, value in given.items()})


def crop(config):
    return config.augment.crop_height, config.augment.crop_width


# A table of cases -----------------------------------------------------------------------------------------------------


def test_small_pictures_are_taken_whole_and_at_full_size():
    config = planned(facts(height=100, width=130)).config
    assert config.data.scale == 1
    assert crop(config) == (96, 128)
    assert config.evaluation.protocol == "whole"


def test_photographs_are_shrunk_until_a_crop_shows_enough():
    config = planned(facts(height=966, width=1296)).config
    assert config.data.scale == 0.375
    assert crop(config) == (224, 320)
    shown = crop(config)[0] * crop(config)[1] / (0.375**2 * 966 * 1296)
    assert shown > 0.25
    assert config.evaluation.protocol == "whole"


def test_small_objects_in_huge_pictures_keep_their_pixels_and_are_scored_in_windows():
    settled = planned(facts(height=12_000, width=12_000, object_side=20.0))
    config = settled.config
    assert config.data.scale == 0.5
    assert config.data.scale * 20 >= OBJECT
    assert crop(config) == (256, 256)
    assert (config.evaluation.protocol, config.evaluation.window, config.evaluation.stride) == ("slide", 256, 192)
    assert "smallest objects, 20 pixels a side" in dict(settled.reasons)["scale"]


def test_large_objects_in_huge_pictures_do_not_hold_the_scale_up():
    assert planned(facts(height=12_000, width=12_000, object_side=900.0)).config.data.scale == LADDER[-1]


def test_on_a_cpu_the_network_comes_with_the_package():
    settled = planned(facts())
    network = settled.config.network
    assert (network.encoder, network.name, network.weights) == ("tf_efficientnet_lite0", "fpn", "package")
    assert settled.config.train.precision == "fp32"
    assert "nothing is downloaded" in dict(settled.reasons)["network"]


def test_a_gpu_sees_more_and_downloads_nothing():
    config = planned(facts(height=966, width=1296), SERVER).config
    assert crop(config) == (416, 576)
    assert (config.network.weights, config.train.precision, config.train.batch_labeled) == ("package", "bf16", 8)


def test_a_gpu_with_the_large_weights_at_hand_takes_them():
    machine = dataclasses.replace(SERVER, presets=frozenset({"pretrained", "gpu"}))
    assert planned(facts(), machine).config.network.encoder == "resnet101s"
    assert planned(facts(), dataclasses.replace(machine, gpu=None)).config.network.weights == "package"


def test_without_any_weights_at_hand_the_recipes_own_network_starts_at_random():
    assert planned(facts(), dataclasses.replace(LAPTOP, presets=frozenset())).config.network.weights == "none"


@pytest.mark.parametrize(("masks", "share"), [(12, 0.8), (19, 0.8), (20, 0.0), (46, 0.0)])
def test_labelled_crops_change_colours_where_masks_are_few(masks, share):
    settings = planned(facts(masks=masks))
    assert settings.config.augment.labeled_colors == share
    assert ("by heart" in dict(settings.reasons)["colours"]) == (share > 0)
    assert planned(facts(masks=masks), augment__labeled_colors=0.5).config.augment.labeled_colors == 0.5


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 256), (128, 128)), ((240, 256), (224, 256)), ((256, 300), (128, 128))]
)
def test_a_crop_shows_a_quarter_of_a_picture_that_would_fit_in_it(size, expected):
    assert crop(planned(facts(*size)).config) == expected


@pytest.mark.parametrize(
    ("usual", "little"),
    [
        (LAPTOP, dataclasses.replace(LAPTOP, memory=GB)),
        (SERVER, dataclasses.replace(SERVER, gpu_memory=4 * GB)),
        (SERVER, dataclasses.replace(SERVER, memory=GB)),
    ],
)
def test_little_memory_gives_crops_and_batches_half_as_large(usual, little):
    usual, little = (planned(facts(height=966, width=1296), machine).config for machine in (usual, little))
    assert crop(little)[0] * crop(little)[1] == pytest.approx(crop(usual)[0] * crop(usual)[1] / 2, rel=0.2)
    assert little.train.batch_labeled == usual.train.batch_labeled / 2
    assert little.train.batch_unlabeled == usual.train.batch_unlabeled / 2


def test_where_decoded_pictures_are_kept_is_measured_when_the_data_are_opened():
    assert {planned(facts(unlabeled=count)).config.data.cache for count in (50, 100_000)} == {"auto"}


@pytest.mark.parametrize(
    ("names", "up_down", "vertical"),
    [
        (["photos"], 0.0, 0.0),
        (["Stained_Nuclei2"], 0.02, 0.5),
        (["data", "aerial-2023"], 0.05, 0.5),
        (["cells_of_a_battery"], 0.6, 0.0),  # the masks know better
        (["excellent"], 0.0, 0.0),  # `cell` inside a word is none
    ],
)
def test_vertical_flips_need_a_name_and_masks_that_do_not_disagree(names, up_down, vertical):
    settled = planned(facts(words=words_of(names), up_down=up_down))
    assert settled.config.augment.flip_vertical == vertical
    assert settled.config.augment.flip == 0.5
    assert "left to right" in dict(settled.reasons)["flips"]


def test_hue_stays_small_and_can_be_asked_for():
    assert planned(facts()).config.augment.hue == 0.05
    assert planned(facts(), augment__hue=0.2).config.augment.hue == 0.2


def test_without_unlabelled_pictures_the_masks_alone_are_trained_on():
    settled = planned(facts(unlabeled=0))
    assert settled.config.method == "supervised"
    assert "no images without masks" in dict(settled.reasons)["method"]


def test_a_patch_of_a_vit_divides_the_crop():
    config = planned(facts(), preset="vit", network__weights="none").config
    assert [side % 14 for side in crop(config)] == [0, 0]


def test_the_reasons_say_what_was_asked_for():
    reasons = dict(planned(facts(), augment__crop_height=64, augment__crop_width=64).reasons)
    assert reasons["crop"] == "64 x 64 pixels: as asked"
    assert 7 <= len(reasons) <= 10


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"train\.stepps"):
        planned(facts(), train__stepps=3)


# What holds of every plan ---------------------------------------------------------------------------------------------

SIDES = st.integers(8, 20_000)
FOUND = st.builds(
    facts,
    height=SIDES,
    width=SIDES,
    masks=st.integers(2, 1000),
    unlabeled=st.sampled_from([0, 3, 5000]),
    object_side=st.none() | st.floats(4, 5000),
    up_down=st.floats(0, 1),
    words=st.sampled_from([frozenset(), frozenset({"cells"})]),
)
MACHINES = st.builds(
    Machine,
    cores=st.integers(1, 64),
    memory=st.integers(GB // 4, 500 * GB),
    gpu=st.sampled_from([None, "GPU"]),
    gpu_memory=st.integers(2 * GB, 80 * GB),
)
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "augment.crop_height": st.sampled_from([64, 100]),
        "train.batch_labeled": st.integers(2, 9),
        "data.scale": st.sampled_from([0.3, 1.0]),
        "method": st.sampled_from(["cutmix", "prototype"]),
        "evaluation.protocol": st.sampled_from(["whole", "slide"]),
        "network.encoder": st.just("resnet18"),
        "augment.flip_vertical": st.just(0.25),
        "seed": st.integers(0, 9),
    },
)


@settings(max_examples=40, deadline=None)
@given(found=FOUND, machine=MACHINES, wishes=WISHES)
def test_invariants(found, machine, wishes):
    config = settle(found, machine, DATA, wishes).config
    values = option_values(config)
    assert {key: values[key] for key in wishes} == wishes
    working = [max(1, round(config.data.scale * side)) for side in (found.height, found.width)]
    for name, length in zip(("height", "width"), working, strict=True):
        side = values[f"augment.crop_{name}"]
        if f"augment.crop_{name}" not in wishes:
            assert side % 32 == 0
            assert side <= max(32, length)
    assert config.run is None
    assert config.train.batch_labeled >= 2


@settings(max_examples=40, deadline=None)
@given(
    found=FOUND,
    minutes=st.floats(0.1, 1000),
    baseline=st.booleans(),
    speed=st.builds(Speed, *[st.floats(0.001, 20)] * 3, st.floats(0, 60)),
)
def test_the_time_is_kept_where_it_can_be(found, minutes, baseline, speed):
    config = settle(found, LAPTOP, DATA, {}).config
    made = schedule(config, found, speed=speed, minutes=minutes, baseline=baseline)
    assert made.steps >= 1
    assert made.folds in (0, *FOLDS, 2)
    assert made.folds <= len(found.masks)
    assert made.seconds <= 60 * minutes or made.steps == 1
    assert made.baseline == (baseline and config.method != "supervised")
    longer = dataclasses.replace(made, steps=made.steps + 1)
    more = duration(config, found, speed, longer.steps, made.folds, made.baseline)
    assert more > 0.9 * 60 * minutes or made.steps == 20_000


# Schedule -------------------------------------------------------------------------------------------------------------


def scheduled(found, minutes=30, **more):
    config = settle(found, LAPTOP, DATA, {}).config
    return config, schedule(config, found, **{"speed": SPEED, "minutes": minutes, "baseline": True, **more})


def test_the_duration_is_the_sum_of_the_trainings():
    config, found = planned(facts()).config, facts(masks=12)
    steps, warmup = 100, config.method_options.warmup
    method = steps * (warmup * 0.2 + (1 - warmup) * 0.5)
    base = steps * 0.2
    folds = 3 * (method + base + 2 * (2.0 + SAVING)) + 2 * 5 * 12 * 0.1
    last = method + 2.0 + SAVING + 2 * 0.1 + REPORT
    assert duration(config, found, SPEED, steps, 3, baseline=True) == pytest.approx(folds + last)
    alone = method + 2.0 + SAVING + 5 * 2 * 0.1 + REPORT
    assert duration(config, found, SPEED, steps, 0, baseline=False) == pytest.approx(alone)


@pytest.mark.parametrize(
    ("masks", "minutes", "folds"), [(7, 30, 3), (7, 120, 5), (4, 120, 4), (2, 120, 2), (1000, 30, 0)]
)
def test_few_masks_are_judged_in_folds_and_more_time_makes_more_of_them(masks, minutes, folds):
    assert scheduled(facts(masks=masks), minutes)[1].folds == folds


def test_validation_images_that_were_named_stay_what_they_are():
    found = facts(masks=12, val_named=True)
    config, made = scheduled(found)
    assert made.folds == 0
    assert "few, but they were named" in dict(in_words(made, config, found))["judged by"]


def test_little_time_is_said_with_the_minutes_that_would_do():
    _, made = scheduled(facts(), 2)
    assert made.steps < 300
    assert made.short
    assert "--minutes" in made.reason
    minutes = int(made.reason.partition("--minutes ")[2].split()[0])
    assert scheduled(facts(), minutes)[1].steps >= 590


def test_given_steps_need_no_measuring():
    config, made = scheduled(facts(masks=7), speed=None, steps=4)
    assert (made.steps, made.folds, made.seconds) == (4, 3, None)
    words = dict(in_words(made, config, facts(masks=7)))
    assert words["time"] == "7 trainings of 4 steps: as asked"
    assert "each of the 7 masks validates once" in words["judged by"]


def test_minutes_in_words():
    assert [minutes_of(seconds) for seconds in (40, 720, 12_600)] == ["40 seconds", "12 minutes", "3.5 hours"]


# The written plan -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(found=FOUND, wishes=WISHES, steps=st.integers(1, 5000))
def test_the_written_recipe_is_the_plan(tmp_path_factory, found, wishes, steps):
    settled = settle(found, LAPTOP, DATA, wishes)
    config = with_steps(settled.config, steps, wishes)
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(recipe_text(Plan(config, settled.reasons, (), True, {}, {}), path.parent), "utf-8")
    assert load_config(path) == config
    assert config.train.steps == steps


def test_a_plan_is_read_back(tmp_path):
    settled = planned(facts(), augment__crop_height=64)
    folds = make_folds({"a": frozenset({0}), "b": frozenset({1}), "c": frozenset({1})}, 3, 0)
    asked = {"folder": "photos", "options": {"augment.crop_height": 64}}
    plan = Plan(settled.config, settled.reasons, folds, True, asked, {"minutes": 30.0})
    write_plan(plan, tmp_path)
    (tmp_path / "recipe.yaml").write_text("method: cutmix")  # as people are told to edit it
    assert read_plan(tmp_path) == plan
    assert (tmp_path / "lists/all.txt").read_text() == "a\nb\nc\n"
    for number, fold in enumerate(folds, 1):
        assert tuple((tmp_path / f"lists/fold{number}-val.txt").read_text().split()) == fold.val


def test_names_that_cannot_be_drawn_do_not_break_the_recipe(tmp_path):
    settled = settle(facts(name="photos\x1b[31m"), LAPTOP, DataOptions(root=Path("a\nb: c")), {})
    plan = Plan(settled.config, settled.reasons, (), True, {}, {})
    (tmp_path / "recipe.yaml").write_text(recipe_text(plan, Path("runs/a\nb")), "utf-8")
    assert load_config(tmp_path / "recipe.yaml") == settled.config


def test_a_damaged_plan_is_named(tmp_path):
    settled = settle(facts(), LAPTOP, DATA, {})
    write_plan(Plan(settled.config, settled.reasons, (), True, {}, {}), tmp_path)
    (tmp_path / "plan.json").write_text('{"reasons": 3}')
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        read_plan(tmp_path)


def test_the_baseline_differs_in_its_method_alone():
    config = planned(facts()).config
    base = as_baseline(config, Path("runs/base"))
    assert dataclasses.replace(base, method=config.method, method_options=config.method_options, run=None) == config
    assert base.method == "supervised"
