"""Loading a model and predicting read the model folder and the pictures, and open no connection."""

import builtins
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support.models import untrained_run

import semiseg
from semiseg.evaluation.model import load_model
from semiseg.evaluation.segment import predict_images
from semiseg.networks import encoders, first_weights, smp, vit

QUIET = Console(quiet=True)
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


class Looked(BaseException):
    """Something looked elsewhere; no `except Exception` may hide it."""


def looks(*_: object, **__: object) -> None:
    raise Looked


@pytest.fixture
def closed(monkeypatch):
    """Every way out raises."""
    import huggingface_hub
    import timm.models._builder
    import timm.models._hub

    for owner, names in {
        socket.socket: ("connect", "connect_ex", "sendto"),
        socket: ("create_connection", "getaddrinfo", "gethostbyname"),
        torch.hub: ("load", "load_state_dict_from_url", "download_url_to_file"),
        huggingface_hub: ("hf_hub_download", "snapshot_download"),
        timm.models._hub: ("hf_hub_download", "load_state_dict_from_hf", "download_cached_file"),
        timm.models._builder: ("load_pretrained", "load_state_dict_from_hf", "load_state_dict_from_url"),
        encoders: ("fetch", "read_tensors", "weights_file", "packaged_file"),
        first_weights: ("fetch",),
        smp: ("fetch", "read_tensors", "packaged_file", "load_first_weights"),
        vit: ("read_tensors", "weights_file"),
    }.items():
        for name in names:
            if hasattr(owner, name):
                monkeypatch.setattr(owner, name, looks)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("run"))


def test_the_ways_out_are_closed(closed):
    with pytest.raises(Looked):
        socket.create_connection(("localhost", 9))
    with pytest.raises(Looked):
        encoders.fetch("resnet18", "timm/resnet18", "model.safetensors")


@pytest.mark.parametrize(
    "weights", ["hub", "package", "none", "CANARY", "https://example.org/w.pth", "hf_hub:some/model", "~/w.pth", ""]
)
@pytest.mark.parametrize("figures", [None, [0.5, 0.5, 0.5]])
def test_whatever_the_model_says_of_its_first_weights(run, tmp_path, closed, monkeypatch, weights, figures):
    copied, canary = Path(shutil.copytree(run, tmp_path / "run")), tmp_path / "canary.pth"
    canary.write_bytes(b"not to be opened")
    about = json.loads((copied / "model/model.json").read_text())
    weights = str(canary) if weights == "CANARY" else weights
    about["network"] |= {"weights": weights, "mean": figures, "std": figures}
    about["first_weights"] = {"from": weights, "licence": None}
    (copied / "model/model.json").write_text(json.dumps(about))
    expected = load_model(run).predict(PICTURE)
    opened = builtins.open
    monkeypatch.setattr(
        builtins, "open", lambda file, *args: looks() if str(file) == str(canary) else opened(file, *args)
    )
    for found in (load_model(copied).predict(PICTURE), semiseg.Run(copied).predict(PICTURE)):
        assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("fpn", "resnet18"), ("dpt", "vit_tiny_patch16_224"), ("smp:Unet", "mobilenet_v2"), ("smp:Unet", "tu-resnet18"),
     ("smp:Segformer", "mit_b0")],
)  # fmt: skip
def test_every_kind_of_network(tmp_path, closed, name, encoder):
    crops = {"augment__crop_height": 64, "augment__crop_width": 64}
    made = untrained_run(tmp_path, network__name=name, network__encoder=encoder, network__weights="none", **crops)
    about = json.loads((made / "model/model.json").read_text())
    about["network"]["weights"] = "hub"
    (made / "model/model.json").write_text(json.dumps(about))
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert predict_images(made, tmp_path / "a.png", tmp_path / "out", console=QUIET).count == 1


def test_predict_in_a_network_without_anything(run, tmp_path):
    """The whole command, as a process that has no network at all."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let a user make an empty network namespace (unshare -rn)")
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    about = json.loads((copied / "model/model.json").read_text())
    about["network"]["weights"] = "hub"
    (copied / "model/model.json").write_text(json.dumps(about))
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    command = [unshare, "-rn", sys.executable, "-m", "semiseg.cli", "predict", str(copied), str(tmp_path / "a.png")]
    empty = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=120, env=os.environ | empty
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/masks/a.png").is_file()
