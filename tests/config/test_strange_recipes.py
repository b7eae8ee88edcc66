"""A recipe is a file of somebody else: it is read with limits, and what is wrong is told without quoting it."""

import os
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semiseg.cli.main import main
from semiseg.config.fields import option_types
from semiseg.config.recipe import Config, ConfigError, load_config

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)

FILES = {
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00secret", "is no text in UTF-8"),
    "zeros": (bytes(5000), "is not YAML"),
    "latin": ("seed: 1  # \u00e9".encode("latin-1"), "is no text in UTF-8"),
    "empty": (b"", "it holds nothing"),
    "comment": (b"# secret\n", "it holds nothing"),
    "text": (b"secret words\nand more\n", "it holds text"),
    "script": (b"#!/bin/sh\nexport KEY=secret\n", "it holds text"),
    "list": (b"[secret]", "it holds a list"),
    "number": (b"7", "it holds a int"),
    "large": (b"a: " + b"secret " * 200_000, "bytes; expected YAML of at most"),
    "deep": (b"a: " + b"[" * 1200 + b"]" * 1200, "nested more than 20 levels deep"),
    "deeper": (b"{a: " * 1200 + b"1" + b"}" * 1200, "nested more than 20 levels deep"),
    "laughs": (LAUGHS.encode(), "more than 10,000 values"),
    "own alias": (b"a: &a [*a]", "an alias inside what it stands for"),
    "broken": (b"a: [secret", "line 1"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", "is not YAML"),
    "python": (b"seed: !!python/object/apply:os.system [secret]", "is not YAML"),
    "tag": (b"seed: !!int secret", "a value that cannot be made"),
    "time": (b"seed: !!timestamp secret", "a value that cannot be made"),
    "month": (b"seed: 2001-13-01", "a value that cannot be made"),
    "twice": (b"seed: 1\nseed: 2\n", "'seed' stands more than once"),
}


@pytest.mark.parametrize("name", FILES)
def test_another_kind_of_file_is_told_at_once_and_not_quoted(tmp_path, capsys, name):
    content, words = FILES[name]
    path = tmp_path / "strange.yaml"
    path.write_bytes(content)
    began = time.monotonic()
    assert main(["train", str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "strange.yaml" in err
    assert "secret" not in err
    assert err.count("\n") == 1
    assert time.monotonic() - began < 5


def test_no_file_folder_pipe_and_hole_are_told(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2 * 10**9)
    for path, words in [
        ("pipe", "is no file"),
        (".", "is a folder"),
        ("hole", "2,000,000,000 bytes"),
        ("\0", "no recipe"),
    ]:
        with pytest.raises(ConfigError, match=words):
            load_config(path if path == "\0" else tmp_path / path)
    (tmp_path / "locked").write_text("seed: 1")

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(ConfigError, match="locked cannot be read: Permission denied"):
        load_config(tmp_path / "locked")


def test_an_alias_that_inflates_nothing_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("augment: {crop_height: &side 64, crop_width: *side}\n")
    assert load_config(path).augment.crop_width == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: [a]", "method is ['a']; expected the name of one: supervised"),
        ("method: 5", "method is 5; expected the name"),
        ("method: {name: {a: 1}}", "method is {'a': 1}; expected the name"),
        ("train: [1]", "train is [1]; expected `name: value` lines of steps"),
        ("train: 5", "train is 5; expected `name: value` lines of steps"),
        ("data: {scenes: 3}", "data.scenes is 3; expected `name: value` lines of labeled"),
        ("train: {steps: {a: 1}}", "train.steps holds a; expected a whole number"),
        ("train: {steps: {}}", "train.steps is {}; expected a whole number"),
        ("train: {steps: [1]}", "train.steps is [1]; expected a whole number"),
        ("train: {steps: null}", "train.steps is None; expected a whole number"),
        ("run: ''", "run is ''; expected a path or none"),
        ("methods: 3", "methods is 3; expected `name: value` lines"),
    ],
)
def test_a_value_in_the_wrong_place_is_told_with_the_place(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert words in str(error.value)


KEYS = st.sampled_from([*option_types("u2pl"), "methods", "presets", "name", "train", "data", "scenes", "steps", "lr"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3)
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.dictionaries(KEYS | st.text(max_size=3), VALUES, max_size=4) | VALUES)
def test_any_document_is_a_config_or_a_config_error(tmp_path, document):
    path = tmp_path / "random.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    try:
        assert isinstance(load_config(path), Config)
    except ConfigError as error:
        assert len(str(error)) < 2000  # noqa: PT017


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text("{}[]:,&*!|>-?#'\"\n ab1", max_size=60).map(str.encode))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path, content):
    path = tmp_path / "random.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(load_config(path), Config)
    except ConfigError as error:
        assert "random.yaml" in str(error)  # noqa: PT017
