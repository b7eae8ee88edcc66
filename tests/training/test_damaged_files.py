"""A run whose files are damaged: told before the first step, left out where asked for, and the same when resumed."""

import re

import pytest
from rich.console import Console
from support.folders import filled, save_image
from support.shard_files import save_noise
from support.tiny_run import QUIET, tiny_config

from semiseg.config.options import DataOptions
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return filled(tmp_path / "data")


def config(root, **options):
    data = DataOptions(root=root, **options)
    return tiny_config(root.with_name("run"), "cutmix", data=data, steps=4, evaluate_every=4, checkpoint_every=2)


def damage(root, name):
    path = root / f"images/{name}.png"
    save_noise(path, 1)
    path.write_bytes(path.read_bytes()[:-100])


def test_a_damaged_image_stops_the_run_before_its_first_step(root):
    damage(root, "u4")
    with pytest.raises(ValueError, match=r"u4\.png cannot be read as a picture.*--data\.on_error skip$"):
        train(config(root), console=QUIET)
    assert not list(root.with_name("run").glob("**/*.jsonl"))


def test_a_run_goes_on_without_the_images_it_left_out_and_with_no_others(root, capsys):
    damage(root, "u4")
    folder = train(config(root, on_error="skip"), console=Console(width=500))
    text = capsys.readouterr().out
    assert re.search(
        r"data: 8 masks train \(automatic, seed 0\), 4 images without \(.*, less 1 damaged\), 2 masks val", text
    )
    assert "warning: only 2 image(s) validate" in text
    split = load_checkpoint(folder / "checkpoints/last.pt")["split"]
    assert split["unlabeled"]["skipped"] == ["u4"]
    train(config(root, on_error="skip"), resume=True, console=QUIET)
    damage(root, "u2")
    with pytest.raises(
        ValueError, match=r"unlabeled images are not the images of the run.*less 1 damaged.*less 2 damaged"
    ):
        train(config(root, on_error="skip"), resume=True, console=QUIET)
    save_image(root / "images/u2.png")
    save_image(root / "images/u4.png")
    with pytest.raises(ValueError, match="unlabeled images are not the images of the run"):
        train(config(root), resume=True, console=QUIET)


def test_a_file_that_is_damaged_later_is_named(root, monkeypatch):
    monkeypatch.setattr("semiseg.training.experiment.require_whole", lambda *_: damage(root, "u4"))
    with pytest.raises(ValueError, match=r"u4\.png cannot be read"):
        train(config(root), console=QUIET)
