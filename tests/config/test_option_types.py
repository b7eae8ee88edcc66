"""Options: words become values of the right type, and every option is documented."""

from pathlib import Path

import pytest

from semiseg.config.checks import describe
from semiseg.config.fields import convert, option_help, option_types
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import load_config


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("seed", "7", 7),
        ("optim.lr", "1e-3", 0.001),
        ("optim.head_lr_factor", 2, 2.0),
        ("data.cache", "true", "memory"),
        ("data.cache", False, "off"),
        ("data.cache", "disk", "disk"),
        ("network.multi_grid", "False", False),
        ("train.threads", "none", None),
        ("train.threads", "3", 3),
        ("data.val", "none", None),
        ("network.weights", "none", "none"),
        ("data.root", "a/b", Path("a/b")),
        ("network.aspp_rates", "6, 12 18", (6, 12, 18)),
        ("network.aspp_rates", [1, 2, 3], (1, 2, 3)),
        ("network.output_stride", "16", 16),
        ("data.pad_label", 0, 0),
        ("data.scenes.val", "5", 5),
    ],
)
def test_words_become_values_of_the_option(key, word, value):
    config = load_config("folder", {key: word})
    for name in key.split("."):
        config = getattr(config, name)
    assert config == value
    assert type(config) is type(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (1, bool),
        ("yes", bool),
        (2.0, int),
        ("2.5", int),
        (None, int),
        ("nan", float),
        ("inf", float),
        ({}, float),
        (3, str),
        (5, Path),
        ([1, 2], tuple[int, int, int]),
        ([1, "x"], tuple[int, ...]),
        (5, tuple[int, ...]),
        ("1 2 x", tuple[int, int, int]),
    ],
)
def test_a_value_of_another_type_is_refused(value, kind):
    with pytest.raises(ValueError):  # noqa: PT011  the caller writes the message
        convert(value, kind)


@pytest.mark.parametrize(
    ("value", "converted"), [("0, 1 8", (0, 1, 8)), ([4], (4,)), ("", ()), ([], ()), ("none", None)]
)
def test_any_number_of_values(value, converted):
    assert convert(value, tuple[int, ...] | None) == converted
    assert describe(tuple[int, ...] | None) == "any number of values, each a whole number or none"


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_every_option_has_a_docstring(method):
    keys = {key for key in option_types(method) if "." in key or key == "prototypes"}
    texts = option_help(method)
    assert set(texts) == keys
    assert all(text.strip().endswith((".", "...")) for text in texts.values())


def test_inherited_options_have_the_docstring_of_the_class_that_redefines_them():
    assert option_help("mean_teacher")["method.unlabeled_weight"].startswith("Weight of the mean squared difference")
    assert option_help("cutmix")["method.unlabeled_weight"] == "Weight of the losses on unlabelled images."
