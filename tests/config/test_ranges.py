"""Every number among the options has a range beside it, and none outside it becomes an option."""

from dataclasses import fields
from typing import Annotated, get_args, get_origin

import pytest

from semiseg.cli.main import main
from semiseg.config.checks import Options, Range, types_of
from semiseg.config.fields import option_fields
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.methods.mean_teacher import MeanTeacherOptions
from semiseg.config.network import NetworkOptions
from semiseg.config.options import EvaluationOptions, OptimOptions, TrainOptions
from semiseg.config.recipe import ConfigError, load_config


def classes(base=Options):
    for each in base.__subclasses__():
        yield each
        yield from classes(each)


def numbers(kind, ranges=()):
    """(type, its ranges) of every number inside a type."""
    if kind in (int, float):
        yield kind, ranges
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        yield from numbers(inner[0], [each for each in inner[1:] if isinstance(each, Range)])
    elif str(kind).startswith("typing.Literal"):
        return
    else:
        for each in inner:
            yield from numbers(each)


def without_range(options):
    return [name for name, kind in types_of(options).items() for _, ranges in numbers(kind) if not ranges]


@pytest.mark.parametrize("options", [*dict.fromkeys(classes())], ids=lambda each: each.__name__)
def test_every_number_has_a_range(options):
    assert not without_range(options)


def test_all_options_are_looked_at():
    for method in METHOD_OPTIONS:
        assert {options for options, _ in option_fields(method).values()} <= {*classes()}


def test_a_number_without_a_range_is_noticed():
    hints = {"a": int, "b": float | None, "c": tuple[int, ...], "d": Annotated[int, Range(0, 1)] | None, "e": bool}
    assert [name for name, kind in hints.items() for _, ranges in numbers(kind) if not ranges] == ["a", "b", "c"]


def ranged():
    """(method, key, type, range) of every option that is a number or none."""
    seen = set()
    for method in METHOD_OPTIONS:
        for key, (options, item) in option_fields(method).items():
            found = [*numbers(types_of(options).get(item.name))]
            if len(found) == 1 and (options, key) not in seen and "tuple" not in str(types_of(options)[item.name]):
                seen.add((options, key))
                yield method, key, *found[0]


RANGED = [*ranged()]


@pytest.mark.parametrize(("method", "key", "kind", "ranges"), RANGED, ids=[f"{m}-{k}" for m, k, _, _ in RANGED])
def test_values_outside_are_refused_by_name_with_what_is_allowed(method, key, kind, ranges):
    (allowed,) = ranges
    outside = [allowed.low - 1, allowed.high + 1 if allowed.high < 2**53 else 2 * allowed.high, -(10**30), 10**30]
    outside += [allowed.low] * allowed.above + [allowed.high] * allowed.below
    name = key.rpartition(".")[2]
    for value in outside:
        with pytest.raises(ConfigError) as error:
            load_config("demo", {"method": method, key: int(value) if kind is int else value})
        assert f"{key} is " in str(error.value)
        assert allowed.words(name) in str(error.value)


@pytest.mark.parametrize(("method", "key", "kind", "ranges"), RANGED, ids=[f"{m}-{k}" for m, k, _, _ in RANGED])
def test_what_is_no_number_is_refused_by_name(method, key, kind, ranges):
    bad = ["nan", "inf", "-inf", float("nan"), float("inf"), True, "x", "", [], {}, [1], "9" * 5000, 10**5000]
    bad += ["1.5", "2.7", 2.7, 1.0, "1e3"] if kind is int else []
    for value in bad:
        with pytest.raises(ConfigError) as error:
            load_config("demo", {"method": method, key: value})
        assert key in str(error.value)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimOptions(momentum=2), "optim.momentum is 2; expected 0 <= momentum < 1"),
        (lambda: OptimOptions(lr=float("nan")), "optim.lr is nan; expected a number"),
        (lambda: OptimOptions(lr="1e-3"), "optim.lr is '1e-3'; expected a number"),
        (lambda: TrainOptions(steps=2.7), "train.steps is 2.7; expected a whole number"),
        (lambda: TrainOptions(steps=True), "train.steps is True; expected a whole number"),
        (lambda: TrainOptions(precision="fp16"), "train.precision is 'fp16'; expected one of fp32, bf16"),
        (lambda: TrainOptions(compile="yes"), "train.compile is 'yes'; expected true or false"),
        (lambda: TrainOptions(threads=0), "train.threads is 0; expected 1 <= threads <= 4,096, or none"),
        (lambda: NetworkOptions(aspp_rates=(1, 2)), "network.aspp_rates is (1, 2); expected 3 values"),
        (lambda: NetworkOptions(aspp_rates=(0, 1, 2)), "network.aspp_rates is 0; expected 1 <= aspp_rates"),
        (lambda: EvaluationOptions(stride=0), "evaluation.stride is 0; expected 1 <= stride"),
        (lambda: MeanTeacherOptions(noise=-0.1), "method.noise is -0.1; expected 0 <= noise"),
    ],
)
def test_python_callers_meet_the_same_check(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is looked at below
        make()
    assert message in str(error.value)


def test_the_ends_that_belong_to_a_range_are_taken():
    for method, key, kind, (allowed,) in RANGED:
        if allowed.above or key in ("augment.crop_height", "augment.crop_width"):
            continue
        for item in fields(Range):
            assert getattr(allowed, item.name) is not None
        assert kind(allowed.low) in allowed, (method, key)


COMMANDS = [
    ("train demo --seed", ["1.5", "-1", str(2**64), "1e3", "nan"]),
    ("train demo --train.steps", ["2.7", "0", "1" + "0" * 30]),
    ("train demo --train.threads", ["0", "1.5", "nan"]),
    ("train demo --optim.lr", ["nan", "inf", "0", "-1"]),
    ("train demo --optim.momentum", ["2", "-0.1"]),
    ("train demo --augment.brightness", ["-0.5"]),
    ("train demo --run", [""]),
    ("train demo --data.root", [""]),
    ("predict run images --out", [""]),
    ("predict run images --out o --stride", ["2.7", "x"]),
    ("predict run images --out o --window", ["1.5"]),
    ("data shard . --out o --shard-size", ["-5", "0", "1.5", "1" + "0" * 30]),
    ("data shard . --out o --images", ["-5", "0", "1.5"]),
    ("demo --seed", ["-1", "1.5", str(2**64)]),
    ("demo --steps", ["-1", "0", "1.5"]),
    ("bench start --repeats", ["0", "-1", "1.5", "1" + "0" * 30]),
    ("compare demo --jobs", ["0", "1.5", "1" + "0" * 30]),
    ("compare demo --seeds", ["-1", "1.5", str(2**64)]),
    ("reproduce table1 --scale cpu --plan --seeds", ["-1", "x"]),
    ("evaluate run --evaluation.images", ["1.5"]),
    ("analyse embedding run --seed", ["-1", str(2**32), "1.5"]),
    ("analyse embedding run --pixels", ["0", "1.5"]),
    ("analyse discrimination run --seed", ["-1"]),
    ("analyse discrimination run --pixels", ["0", "1.5", "-3"]),
    ("analyse pictures run --count", ["0", "-1", "1.5"]),
    ("estimate demo --train.batch_labeled", ["0", "1.5"]),
]


@pytest.mark.parametrize(
    ("line", "value"), [(line, value) for line, values in COMMANDS for value in values], ids=lambda each: each or "''"
)
def test_the_command_line_refuses_it_in_one_line(capsys, tmp_path, monkeypatch, line, value):
    monkeypatch.chdir(tmp_path)
    *before, option = line.split()
    assert main([*before, f"{option}={value}"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("semiseg: error: ")
    assert err.count("\n") == 1
    assert option.lstrip("-").rpartition(".")[2].rstrip("s") in err
    assert not [*tmp_path.iterdir()]
    assert not out


def test_none_is_still_read_where_an_option_can_be_none(capsys):
    assert main(["train", "demo", "--train.threads", "none", "--data.val", "none", "--optim.momentum", "3"]) == 2
    assert "optim.momentum is 3.0" in capsys.readouterr().err
