"""The benchmark of large photographs measures what its rows say, and leaves nothing behind."""

import os

from semiseg.costs.bench import large
from semiseg.costs.bench.start import _first, _imports


def test_crops_and_steps_by_where_decoded_pictures_are_kept(monkeypatch):
    monkeypatch.setattr(large, "KINDS", {"tiny": ((150, 170), ".png")})
    monkeypatch.setattr(large, "SMALL", (48, 64))
    monkeypatch.setattr(large, "CROP", 32)
    tiny = {
        "network.encoder": "test_resnet",
        "network.channels": 8,
        "augment.crop_height": 32,
        "augment.crop_width": 32,
    }
    monkeypatch.setattr(large, "OPTIONS", {**large.OPTIONS, **tiny})
    monkeypatch.setenv("SEMISEG_CACHE", "/kept")
    crops, steps = large.bench_large(1)
    each = {row["what"]: row["ms"] for row in crops.rows}
    assert each["crop, from memory"] < each["crop, decoded by Pillow"]
    assert [row["data.cache"] for row in steps.rows] == [
        "small pictures, memory", "off", "disk, first pass", "disk, later",
    ]  # fmt: skip
    assert steps.rows[0]["time ratio"] == 1
    assert [row["target"] for row in steps.rows] == ["", "", "< 1.5", "< 1.10"]
    assert os.environ["SEMISEG_CACHE"] == "/kept"


def test_the_first_word_and_the_first_loss_are_timed(tmp_path):
    line = "print('data', flush=True); import time; time.sleep(0.2); print('x step 1/9', flush=True); time.sleep(60)"
    word, loss, processor = _first(["python3", "-c", line], tmp_path)
    assert 0 < word < loss - 0.15
    assert loss < 30
    assert processor < loss


def test_imports_are_held_against_torch():
    row = _imports(1)
    assert row["unit"] == "x"
    assert 0.5 < row["measured"] < 3
