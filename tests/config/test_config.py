"""Recipes, overrides and saved configs: what is laid over what, what comes back, and what a mistake is told."""

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semiseg.config.fields import ConfigError
from semiseg.config.methods import METHOD_OPTIONS, CutMixOptions, PrototypeOptions, SupervisedOptions
from semiseg.config.options import DataOptions, EvaluationOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.recipe import Config, config_from_dict, config_to_dict, load_config, save_config, shipped_recipes

RECIPE = """\
# A recipe with everything in it
seed: 3
method: {name: prototype, threshold: 0.7}
methods:
  prototype: {threshold: 0.1, prototypes: {momentum: 0.9}}
  cutmix: {threshold: 0.5}
optim: {lr: 1e-3}
train:
  steps: 100
data:
preset: short
presets:
  short:
    method: {prototypes: {temperature: 0.2}, ema_decay: 0.9}
    train: {steps: 7}
  long:
    methods: {cutmix: {threshold: 0.6}}
    train: {steps: 1_000}
  baseline:
    method: supervised
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def write(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    return path


# Layers


def test_the_later_layer_wins(recipe):
    assert load_config(recipe).train.steps == 7
    assert load_config(recipe, {"preset": "long"}).train.steps == 1000
    assert load_config(recipe, {"preset": "none"}).train.steps == 100
    assert load_config(recipe, {"preset": "long", "train.steps": "8"}).train.steps == 8


def test_what_no_layer_names_keeps_its_default(recipe):
    config = load_config(recipe)
    assert config.data == DataOptions()
    assert config.evaluation == EvaluationOptions()
    assert (config.recipe, config.preset, config.seed, config.run) == ("mine", "short", 3, None)
    assert config.optim.lr == 1e-3  # YAML 1.1 reads 1e-3 as text


def test_method_section_goes_over_methods_section(recipe):
    options = load_config(recipe, {"preset": "long"}).method_options
    assert options == PrototypeOptions(threshold=0.7, prototypes=PrototypesOptions(momentum=0.9))


def test_another_method_takes_its_own_options_only(recipe):
    assert load_config(recipe, {"method": "cutmix", "preset": "none"}).method_options == CutMixOptions(threshold=0.5)
    assert load_config(recipe, {"method": "cutmix", "preset": "long"}).method_options == CutMixOptions(threshold=0.6)


def test_preset_options_that_the_method_lacks_are_left_out(recipe):
    """`short` sets prototypes.temperature, which cutmix lacks, and ema_decay, which both have."""
    assert load_config(recipe, {"method": "cutmix"}).method_options == CutMixOptions(threshold=0.5, ema_decay=0.9)
    assert load_config(recipe, {"method": "supervised"}).method_options == SupervisedOptions()


def test_a_preset_may_choose_the_method_and_the_command_line_another(recipe):
    assert load_config(recipe, {"preset": "baseline"}).method == "supervised"
    assert load_config(recipe, {"preset": "baseline", "method": "cutmix"}).method == "cutmix"


def test_method_may_stand_as_a_plain_name(tmp_path):
    config = load_config(write(tmp_path, "method: cutmix"))
    assert (config.method, config.method_options) == ("cutmix", CutMixOptions())


def test_run_folder_is_named_after_the_run():
    assert load_config("folder", {"method": "cutmix", "seed": 4}).run_folder == Path("runs/folder-cutmix-seed4")
    assert load_config("folder", {"run": "elsewhere"}).run_folder == Path("elsewhere")


# Mistakes, each with its message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data: {crop_hight: 3}",
            "bad.yaml: data.crop_hight: there is no such option; did you mean augment.crop_height?",
        ),
        ("optim: {zzzzz: 3}", "optim.zzzzz: there is no such option; expected one of: optim.kind, optim.lr, "),
        ("trian: {stepz: 3}", "bad.yaml: trian.stepz: there is no such option; did you mean train.steps?"),
        ("data: 5", "bad.yaml: data is 5; expected `name: value` lines of dataset, root, labeled and others"),
        ("optim: {warmup: 5}", "bad.yaml: optim.warmup: there is no such option; did you mean optim.warmup_steps?"),
        (
            "data: {scenes: {seeed: 5}}",
            "bad.yaml: data.scenes.seeed: there is no such option; did you mean data.scenes.seed?",
        ),
        ("seed: {a: 1}", "bad.yaml: seed holds a; expected a whole number"),
        ("train: {steps: many}", "bad.yaml: train.steps is 'many'; expected a whole number"),
        ("train: {threads: many}", "train.threads is 'many'; expected a whole number or none"),
        ("data: {cache: maybe}", "data.cache is 'maybe'; expected one of auto, memory, disk, off"),
        ("loss: {kind: cee}", "bad.yaml: loss.kind is 'cee'; expected one of ce, ohem"),
        ("network: {aspp_rates: [6, 12]}", "network.aspp_rates is [6, 12]; expected 3 values, each a whole number"),
        ("data: {scale: 9}", "data.scale is 9.0; expected 0 < scale <= 4 (in "),
        (
            "method: protoype",
            "bad.yaml: there is no method 'protoype'; did you mean prototype? Expected one of: supervised",
        ),
        ("method: {name: prototype, thresold: 1}", "bad.yaml: method.thresold: there is no such option"),
        (
            "method: {name: cutmix, temperature: 1}",
            "method.temperature: there is no such option; it belongs to --method",
        ),
        ("methods: {cutmx: {}}", "bad.yaml: methods: there is no method 'cutmx'; did you mean cutmix?"),
        ("methods: [cutmix]", "bad.yaml: methods is ['cutmix']; expected `name: value` lines"),
        ("preset: shrt\npresets: {short: {}}", "bad.yaml: there is no preset 'shrt'; did you mean short?"),
        ("preset: a\npresets: {a: {train: {stpes: 1}}}", "bad.yaml: presets.a.train.stpes: there is no such option"),
        ("preset: a\npresets: {a: 3}", "bad.yaml: presets.a is 3; expected `name: value` lines"),
        ("- a list", "bad.yaml is no recipe: it holds a list; expected `name: value` lines"),
        ("a: [1", "bad.yaml is not YAML: "),
        ("seed: -1", "seed is -1; expected 0 <= seed <= 9,223,372,036,854,775,807"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_file_and_repair(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert message in str(error.value)
    assert "bad.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.labled": "x"}, "--data.labled: there is no such option; did you mean data.labeled?"),
        (
            {"method": "supervised", "method.noise": 1},
            "--method.noise: there is no such option; it belongs to --method mean",
        ),
        ({"network.output_stride": "12"}, "--network.output_stride is '12'; expected one of 8, 16, 32"),
        ({"method": "mean_techer"}, "there is no method 'mean_techer'; did you mean mean_teacher?"),
        ({"preset": "paper"}, "mine.yaml: there is no preset 'paper'; expected one of: short, long, baseline"),
        ({"data.scale": 9}, "data.scale is 9.0; expected 0 < scale <= 4 (in "),
        ({"data.split": "a", "data.labeled": "b"}, "data.split names both lists"),
    ],
)
def test_a_mistake_in_an_override_is_named_with_its_repair(recipe, overrides, message):
    with pytest.raises(ConfigError) as error:
        load_config(recipe, overrides)
    assert message in str(error.value)


def test_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(
        ConfigError, match=r"there is no recipe 'camvd', nor a file or folder of that name; did you mean camvid\?"
    ):
        load_config("camvd")
    with pytest.raises(
        ConfigError, match="; expected one of: camvid, cityscapes, demo, folder, voc-blender, voc-classic"
    ):
        load_config("qqq")


def test_a_preset_where_there_are_none():
    with pytest.raises(ConfigError, match="this recipe has no presets; leave --preset paper out"):
        load_config("demo", {"preset": "paper"})


def test_method_and_its_options_must_agree():
    with pytest.raises(ConfigError, match="'cutmix' takes CutMixOptions, but method_options is PrototypeOptions"):
        replace(Config(), method="cutmix")
    assert Config(method="cutmix").method_options == CutMixOptions()


# There and back


@pytest.mark.parametrize("method", METHOD_OPTIONS)
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_saved_config_loads_equal(tmp_path, name, method):
    config = load_config(name, {"method": method, "seed": 5, "run": "a b/ü", "train.threads": 2})
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert config_from_dict(config_to_dict(config)) == config


def test_a_saved_config_names_every_option(tmp_path):
    config = load_config("voc-classic")
    save_config(config, tmp_path / "config.yaml")
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for section in (item.name for item in fields(config) if is_dataclass(getattr(config, item.name))):
        written = set(document[section.removesuffix("_options")]) - {"name"}
        assert written == {item.name for item in fields(getattr(config, section))} - {"name", "prototypes"}, section
    assert document["prototypes"] == asdict(config.method_options.prototypes)
    assert document["method"]["name"] == "prototype"
    assert document["preset"] == "release"


def test_a_saved_config_takes_overrides_and_another_method(tmp_path):
    save_config(load_config("voc-classic"), tmp_path / "config.yaml")
    config = load_config(tmp_path / "config.yaml", {"method": "cutmix", "optim.lr": "0.5"})
    assert (config.method_options, config.optim.lr, config.recipe) == (CutMixOptions(), 0.5, "voc-classic")


def plain(value):
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    return all(map(plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))


def test_the_dict_holds_plain_types_only():
    assert plain(config_to_dict(load_config("camvid", {"run": "x", "data.split_folder": "y"})))


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda t: t.lower() not in ("none", "null")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**40),
    lr=st.floats(1e-12, 1e6),
    text=TEXT,
    rates=st.tuples(*[st.integers(1, 99)] * 3),
    threads=st.none() | st.integers(1, 64),
    cache=st.sampled_from(["auto", "memory", "disk", "off", True, False]),
)
def test_any_value_survives_the_file(tmp_path, seed, lr, text, rates, threads, cache):
    overrides = {"seed": seed, "optim.lr": lr, "data.labeled": text, "network.encoder": text, "data.root": Path(text)}
    overrides |= {"network.aspp_rates": rates, "train.threads": threads, "data.cache": cache}
    config = load_config("folder", overrides)
    assert (config.optim.lr, config.data.labeled, config.network.aspp_rates) == (lr, text, rates)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    words = {key: str(value) for key, value in overrides.items()} | {"network.aspp_rates": " ".join(map(str, rates))}
    assert load_config("folder", words) == config


@pytest.mark.parametrize("overrides", [{"method": "cutmix"}, {"method": "prototype"}, {"method.mix": "classmix"}])
@pytest.mark.parametrize("batch", [{"train.batch_unlabeled": 1}, {"train.accumulate": 8}])
def test_mixing_needs_a_partner(overrides, batch):
    with pytest.raises(ConfigError, match=r"another of its batch.*at least 2"):
        load_config("demo", {**overrides, **batch})
    load_config("demo", {"method": "mean_teacher", "method.warmup": 0, **batch})
    load_config("demo", {"method.mix": "cutout", "method.warmup": 0, **batch})


def test_a_section_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("method: supervised\ntrain: {steps: 5}\ntrain: {workers: 0}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not YAML: 'train' stands more than once: join them"):
        load_config(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.workers", -1),
        ("train.threads", 0),
        ("optim.weight_decay", -1),
        ("optim.power", -1),
        ("network.aspp_rates", [0, 1, 2]),
        ("evaluation.images", 0),
    ],
)
def test_values_out_of_range_name_the_option(key, value):
    with pytest.raises(ConfigError, match=key):
        load_config("demo", {key: value})


def test_compiled_networks_are_not_computed_again():
    with pytest.raises(ConfigError, match=r"train\.compile and network\.checkpoint do not go together"):
        load_config("demo", {"train.compile": True, "network.checkpoint": True})


# The section `prototypes`


def prototypes_of(overrides=None, recipe="demo"):
    return load_config(recipe, overrides).method_options.prototypes


def test_prototypes_are_on_for_the_papers_method_and_off_for_others():
    assert prototypes_of() == PrototypesOptions()
    assert prototypes_of({"method": "fixmatch"}) is None


def test_any_option_of_the_section_turns_it_on_and_false_turns_it_off():
    assert prototypes_of({"method": "fixmatch", "prototypes": "true"}) == PrototypesOptions()
    assert prototypes_of({"method": "cps", "prototypes.grid": "none"}) == PrototypesOptions(grid=None)
    assert prototypes_of({"prototypes": "false"}) is None


def test_the_section_of_a_recipe_is_laid_under_the_options(tmp_path):
    path = write(tmp_path, "method: u2pl\nprototypes: {per_class: 2, momentum: 0.5}")
    assert prototypes_of({"prototypes.momentum": 0.9}, path) == PrototypesOptions(per_class=2, momentum=0.9)
    assert prototypes_of({"prototypes": False}, path) is None
    assert load_config(path, {"method": "cutmix"}).method_options == CutMixOptions()  # it has none


@pytest.mark.parametrize("overrides", [{"prototypes": False}, {"method": "cps"}, {"prototypes.update": "none"}])
def test_a_saved_section_is_read_back(tmp_path, overrides):
    config = load_config("demo", overrides)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").method_options == config.method_options


OLD = {
    "prototype": ["prototypes", "prototype", "temperature", "momentum", "update", "update_rule", "grid"],
    "fixmatch": ["prototypes", "prototypes_per_class", "prototype_grid", "prototype_momentum", "prototype_temperature"],
    "u2pl": ["prototype_weight"],
}


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, names in OLD.items() for name in names])
@pytest.mark.parametrize("place", ["command line", "method", "unnamed method", "methods"])
def test_an_old_spelling_is_answered_with_the_new_one(tmp_path, method, name, place):
    texts = {
        "command line": f"method: {method}",
        "method": f"method: {{name: {method}, {name}: 3}}",
        "unnamed method": f"method: {{{name}: 3}}",
        "methods": f"method: {method}\nmethods: {{{method}: {{{name}: 3}}}}",
    }
    typed = {f"method.{name}": 3} if place == "command line" else {}
    path = write(tmp_path, texts[place])
    with pytest.raises(ConfigError, match=rf"method\.{name}: there is no such option; it is now prototypes"):
        load_config(path, {"method": method, **typed})


def test_an_option_that_went_is_answered():
    with pytest.raises(ConfigError, match=r"train\.accumulate saves more"):
        load_config("demo", {"loss.slices": 2})


def test_options_beside_the_switch_that_turns_them_off_are_refused():
    with pytest.raises(ConfigError, match=r"--prototypes\.weight: prototypes are turned off here too"):
        load_config("demo", {"prototypes": "false", "prototypes.weight": 2})


def test_a_switch_beside_a_section_in_one_file_keeps_the_section(tmp_path):
    text = "method: {name: u2pl, prototypes: true}\nmethods: {u2pl: {prototypes: {momentum: 0.5, per_class: 2}}}"
    assert prototypes_of(recipe=write(tmp_path, text)) == PrototypesOptions(momentum=0.5, per_class=2)
    over = "method: u2pl\nprototypes: {momentum: 0.7}\nmethods: {u2pl: {prototypes: {momentum: 0.5, per_class: 2}}}"
    assert prototypes_of(recipe=write(tmp_path, over)) == PrototypesOptions(momentum=0.7, per_class=2)
