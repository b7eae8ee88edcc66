"""Model folders that say anything: each is refused in one message, before it costs memory or time."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import untrained_run

import semiseg
from semiseg.evaluation.description import Description, read_description
from semiseg.evaluation.model import load_model

PICTURE = np.random.default_rng(0).integers(0, 256, (33, 41, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The model folder of a method with prototypes."""
    return untrained_run(tmp_path_factory.mktemp("run"), per_class=2) / "model"


@pytest.fixture
def copied(model, tmp_path) -> Path:
    """A copy, to be written to."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def changed(folder: Path, change: Callable[[dict], Any]) -> Path:
    path = folder / "model.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    return folder


def rewritten(folder: Path, change: Callable[[dict], Any], keep: bool = False) -> Path:
    """The weights changed, as an earlier version wrote them: no classes in the file, no checksum unless `keep`."""
    path = folder / "model.safetensors"
    weights = dict(load_file(path))
    change(weights)
    save_file(weights, path)
    return folder if keep else changed(folder, lambda about: about.pop("weights_sha256"))


def put(document: dict, key: str, value: Any) -> None:
    """Set the field with that dotted name; Ellipsis takes it out."""
    *sections, name = key.split(".")
    for section in sections:
        document = document[section]
    if value is ...:
        document.pop(name, None)
    else:
        document[name] = value


NULL = (
    *("prototypes", "several", "bands", "weights_sha256", "network.layers", "network.mean", "network.std"),
    "evaluation.images",
)
ABSENT = (
    *("several", "weights_sha256", "mean", "std", "encoder_mean", "encoder_std", "first_weights", "bands"),
    *("network.layers", "network.weights", "network.mean", "network.std", "network.checkpoint", "network.bands"),
    *(
        "evaluation.windows_at_once",
        "evaluation.blend",
        "evaluation.images",
        "evaluation.hidden",
        "evaluation.instruments",
    ),
)
SECTIONS = {
    "": (
        *("network", "classes", "colors", "scale", "precision", "evaluation", "headline", "prototypes", "several"),
        *("mean", "std", "encoder_mean", "encoder_std", "weights_sha256", "bands"),
    ),
    "network.": (
        *("name", "encoder", "output_stride", "multi_grid", "channels", "aspp_rates", "layers", "dropout", "aux"),
        *("weights", "mean", "std", "checkpoint", "bands"),
    ),
    "evaluation.": ("protocol", "window", "stride", "windows_at_once", "blend", "images", "hidden", "instruments"),
    "prototypes.": ("per_class", "temperature"),
}
FIELDS = [section + name for section, names in SECTIONS.items() for name in names]
DEEP = json.loads("[" * 90 + "]" * 90)
WRONG = {
    "missing": ..., "null": None, "text": "no such thing", "bytes": "\x00\ud800", "true": True, "nan": float("nan"),
    "inf": float("inf"), "huge": 10**9, "wide": 10**300, "negative": -1, "fraction": 0.3, "list": [], "nested": DEEP,
    "numbers": [1, 2, 3], "big": [1e300] * 3, "object": {}, "objects": {"name": {"name": {}}},
    "many": ["class"] * 10**5, "long": "x" * 10**4,
}  # fmt: skip
FITTING = {
    "true": ("network.multi_grid", "network.aux", "network.checkpoint", "evaluation.instruments"),
    "text": ("network.weights", "network.name", "network.encoder"),
    "long": ("network.weights", "network.name", "network.encoder"),
    "huge": ("evaluation.images", "evaluation.hidden"),
    "fraction": ("scale", "network.dropout", "prototypes.temperature"),
    "numbers": ("network.aspp_rates",),
}
"""Values that a field takes."""


def test_every_field_is_tried(model):
    about = json.loads((model / "model.json").read_text())
    written = {key for key in about if key != "first_weights"}
    assert written == set(SECTIONS[""])
    for section in ("network", "evaluation", "prototypes"):
        assert set(about[section]) == set(SECTIONS[f"{section}."])


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_another_type_or_range_is_named_with_what_was_expected(model, tmp_path, field):
    path, original = tmp_path / "model.json", (model / "model.json").read_text()
    for wrong, value in WRONG.items():
        about = json.loads(original)
        put(about, field, value)
        path.write_text(json.dumps(about))
        fine = (
            field in FITTING.get(wrong, ()) or (value is None and field in NULL) or (value is ... and field in ABSENT)
        )
        if fine:
            assert isinstance(read_description(path), Description), wrong
            continue
        with pytest.raises(ValueError, match="does not describe a model of this version") as told:
            read_description(path)
        message = str(told.value)
        assert message.startswith(str(path)), wrong
        assert field.rpartition(".")[2] in message, wrong
        assert "expected" in message, wrong
        assert message.endswith("--resume"), wrong
        assert len(message) < 1500, wrong


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("network.name", "no such", "a network 'no such', unknown in this process: give it as load_model"),
        ("network.encoder", "no such", "cannot be built: network.encoder is 'no such'.*nearest names"),
        ("network.encoder", "hf_hub:some/model", "cannot be built: network.encoder is 'hf_hub:some/model'"),
        ("network.encoder", "local-dir:/etc", "cannot be built: network.encoder is 'local-dir:/etc'"),
        ("network.encoder", "../resnet18", r"cannot be built: network.encoder is '\.\./resnet18'"),
        ("network.encoder", "vit_small_patch14_dinov2", "cannot be built: network.encoder vit_small"),
        ("network.layers", [3, 2, 1, 0], "cannot be built: network.layers are"),
        ("network.std", [0.0, 0.0, 0.0], "cannot be built: .*"),
        ("evaluation.stride", 10**4, r"the stride is 10000 and the window \d+; expected 0 < stride <= window"),
        ("network.canals", 8, "network.'canals' is no field of this version; expected name, encoder"),
        ("weights_sha256", "A" * 64, "expected 64 hexadecimal digits"),
        ("mean", [0.5, 0.5, 0.5], r"mean is \(0\.5, 0\.5, 0\.5\); expected \(0\.485"),
        ("classes", [], "classes are 0 names; expected 1 to 255"),
        ("classes", ["a"] * 256, "classes are 256 names; expected 1 to 255"),
        ("colors", [[0, 0, 0]], "colors are 1 for 6 classes"),
        ("several", {"names": ["a", "a"], "reported": "a"}, "expected 2 to 8 different names"),
        ("several", {"names": ["a", "b.c"], "reported": "a"}, "expected 2 to 8 different names"),
        ("several", {"names": ["a", "b"], "reported": "c"}, "expected 2 to 8 different names"),
        ("several", {"names": [*"abcdefghi"], "reported": "a"}, "expected 2 to 8 different names"),
        ("several", {"names": ["keys", "values"], "reported": "mean"}, "expected 2 to 8 different names"),
    ],
)
def test_values_that_do_not_go_together_are_named(copied, field, value, why):
    changed(copied, lambda about: put(about, field, value))
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(copied))}.*{why}"):
        load_model(copied)


def test_windows_that_would_take_hours_are_refused(copied):
    options = {"protocol": "slide", "window": 4096, "stride": 1}
    changed(copied, lambda about: about["evaluation"].update(options))
    with pytest.raises(
        ValueError, match=r"evaluation\.stride is 1 for windows of 4096 pixels; expected at least a 16th"
    ):
        load_model(copied)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"), (b"[]", r"holds \[\]; expected an object"), (b"null", "holds None"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"network": ', "not JSON"), (b"[" * 100_000, "not JSON"), (b'{"a": ' * 50_000, "not JSON"),
        (b'{"scale": ' + b"9" * 10_000 + b"}", "not JSON"), (b" " * (1 << 21), "larger than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(copied, text, why):
    (copied / "model.json").write_bytes(text)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(copied))}/model\.json does not describe a model.*{why}"):
        load_model(copied)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"network.channels": 8192}, r"other shapes \(\d+\): .*expected \(8192"),
        ({"network.channels": 8192, "network.name": "fpn", "network.encoder": "resnet152"}, "lacks"),
        ({"classes": ["a"] * 255, "colors": [[0, 0, 0]] * 255}, "other shapes"),
        ({"prototypes.per_class": 1024}, r"prototypes\.prototypes is \(\d+, \d+, \d+\), expected"),
        ({"prototypes": None, "headline": "linear"}, r"has besides \(4\): prototypes\."),
        ({"several": {"names": list("abcdefgh"), "reported": "mean"}}, r"lacks \(\d+\): others\.b"),
        ({"network.aux": True}, r"lacks \(\d+\): segmentor\.aux_head"),
    ],
)  # fmt: skip
def test_another_network_is_refused_by_its_tensors_before_it_has_memory(copied, monkeypatch, change, why):
    for key, value in change.items():
        changed(copied, lambda about, key=key, value=value: put(about, key, value))
    sizes, empty = [], torch.nn.Module.register_parameter

    def counted(module: torch.nn.Module, name: str, value: torch.Tensor | None) -> None:
        sizes.append(0 if value is None or value.is_meta else value.numel())
        empty(module, name, value)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", counted)
    began = time.process_time()
    with pytest.raises(ValueError, match=rf"model\.safetensors does not hold weights of the network.*{why}"):
        load_model(copied)
    assert sum(sizes) == 0
    assert time.process_time() - began < 30


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(copied, bad):
    name = "prototypes.prototypes"
    rewritten(copied, lambda weights: weights[name].view(-1)[0].fill_(bad))
    with pytest.raises(ValueError, match=rf"model\.safetensors holds numbers that are not finite.*{re.escape(name)}"):
        load_model(copied)


def test_weights_of_another_type_are_named(copied):
    rewritten(copied, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    with pytest.raises(ValueError, match=r"holds \S+ as torch\.float16; expected torch\.float32"):
        load_model(copied)


@pytest.mark.parametrize("place", [0, 3, 40, 0.3, 0.7, -1])
def test_a_flipped_bit_of_the_weights_is_noticed(copied, place):
    path = copied / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place if isinstance(place, int) else int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} .*Restore both files"):
        load_model(copied)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
def test_weights_cut_short_are_named(copied, kept):
    path = copied / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is damaged, cut short or no safetensors file"):
        load_model(copied)


def test_a_model_of_before_the_checksum_loads(copied):
    expected = load_model(copied).predict(PICTURE)
    rewritten(copied, lambda weights: None)
    found = load_model(copied).predict(PICTURE)
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_the_checksum_is_of_the_file(copied):
    rewritten(copied, lambda weights: weights["segmentor.pixel_mean"].add_(0.1), keep=True)
    with pytest.raises(
        ValueError, match=r"is not the file that model\.json was written with: its sha256 is [0-9a-f]{64}"
    ):
        load_model(copied)


def test_a_model_that_gives_nan_says_so(copied):
    rewritten(copied, lambda weights: weights["segmentor.pixel_std"].fill_(0))
    with pytest.raises(ValueError, match="numbers that are not finite"):
        load_model(copied).predict(PICTURE)


def test_the_front_door_goes_the_same_way(copied):
    run = semiseg.Run(copied.parent)
    changed(copied, lambda about: put(about, "scale", -1))
    for load in (lambda: run.predict(PICTURE), lambda: run.model, lambda: semiseg.load_model(run)):
        with pytest.raises(ValueError, match=r"model\.json .*scale is -1; expected 0 < scale <= 4"):
            load()


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_damaged_result_is_named(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json is damaged, or no result of semiseg"):
        semiseg.Run(tmp_path).result  # noqa: B018
