"""The method that docs/add-a-method.md adds works as the page says."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import added
from support.ranks import in_ranks
from support.tiny import batches, clock, optimizer_of, segmentor, setting, train_step

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.methods import METHODS
from semiseg.studies.paper.grid import make_reproduction
from semiseg.studies.paper.tables import find_table
from semiseg.training.record import read_record

PAGE = Path(__file__).parents[2] / "docs" / "add-a-method.md"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The page's file, as a reader would save it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "entropy.py"
    path.write_text(code, "utf-8")
    return path


@pytest.fixture
def names(script: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """What the file defines; its method leaves the registry after the test."""
    monkeypatch.setitem(sys.modules, "entropy", None)  # what was there comes back
    found = added.add(script)
    assert METHOD_OPTIONS["entropy"] is found["EntropyOptions"]
    yield found
    del METHODS["entropy"]
    assert "entropy" not in METHOD_OPTIONS


def test_its_loss_is_the_mean_entropy_of_valid_pixels(names):
    logits, valid = torch.randn(2, 3, 4, 5), torch.rand(2, 4, 5) < 0.7
    total = 0.0
    for b, y, x in valid.nonzero().tolist():
        total -= sum(p * math.log(p) for p in logits[b, :, y, x].double().softmax(0).tolist())
    assert names["entropy"](logits, valid).item() == pytest.approx(total / int(valid.sum()), rel=1e-5)
    assert names["entropy"](logits, torch.zeros_like(valid)) == 0


def test_it_trains_and_the_entropy_falls(names):
    method = METHODS["entropy"](segmentor(), names["EntropyOptions"](unlabeled_weight=1.0), setting()).train()
    optimizer = optimizer_of(method)
    found = [train_step(method, optimizer, batches(), clock(step)).losses["entropy"].item() for step in range(10)]
    assert found[-1] < 0.8 * found[0]


def test_the_file_is_a_command_line_with_one_method_more(script, tmp_path):
    run = tmp_path / "run"
    small = "--data.scenes.labeled 2 --data.scenes.unlabeled 2 --data.scenes.val 1 --augment.crop_height 32"
    short = "--train.steps 2 --train.log_every 1 --train.threads 1 --train.batch_labeled 2 --train.batch_unlabeled 2"
    command = f"train demo --method entropy --method.unlabeled_weight 0.3 {small} {short} --run {run}"
    done = subprocess.run([sys.executable, script, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [line for line in read_record(run / "metrics.jsonl") if line["kind"] == "train"]
    assert [set(line) >= {"supervised", "entropy"} for line in losses] == [True, True]
    wrong = [sys.executable, script, "train", "demo", "--method", "entropy", "--method.unlabelled_weight", "1"]
    refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "method.unlabeled_weight" in refused.stdout + refused.stderr


@pytest.mark.slow
def test_a_comparison_has_it_beside_the_others(script, tmp_path):
    small = "--labeled 4 --data.scenes.unlabeled 4 --data.scenes.val 2 --augment.crop_height 32"
    short = "--steps 2 --train.threads 1 --train.batch_labeled 2 --train.batch_unlabeled 2 --train.evaluate_every 2"
    command = (
        f"compare demo --methods entropy --jobs 1 {small} {short} --augment.crop_width 32 --out {tmp_path / 'out'}"
    )
    done = subprocess.run([sys.executable, script, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "compare.md").read_text("utf-8")
    assert "entropy" in table
    assert "supervised" in table


def test_the_papers_tables_have_a_row_for_it(names):
    rows = {row.method: row for row in find_table("table1").rows}
    assert "Entropy minimization" in rows["entropy"].title
    assert make_reproduction("table1", scale="cpu", only="entropy").rows


def test_two_ranks_do_what_one_does(script, names, tmp_path):
    expected = added.train(script, tmp_path / "alone", "entropy")
    found = in_ranks(2, tmp_path / "group", added.train, script, tmp_path / "together", "entropy")
    assert None not in found, [file.read_text() for file in tmp_path.glob("group/*.txt")]
    assert found[0]["trace"] == [pytest.approx(entry, abs=1e-6, rel=1e-6) for entry in expected["trace"]]
    assert any("entropy" in entry for entry in expected["trace"])
