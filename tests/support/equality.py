"""Whether two runs are the same to the bit."""

from pathlib import Path

import torch

from semiseg.config.recipe import Config
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.record import read_record


def entries(folder: Path) -> list[dict]:
    """The record, without the seconds."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_record(folder / METRICS)]


METRICS = "metrics.jsonl"


def same(found: Path, expected: Path) -> None:
    """Weights, optimizer, state, record and model of two finished runs are equal, to the bit."""
    for name in ("last", "best"):
        ours, theirs = (load_checkpoint(folder / f"checkpoints/{name}.pt") for folder in (found, expected))
        same_tensors(ours["method"], theirs["method"])
        same_tensors(momenta(ours), momenta(theirs))
        for state in (ours["state"], theirs["state"]):
            del state["seconds"], state["evaluating"]
        assert ours["state"] == theirs["state"]
    assert entries(found) == entries(expected)
    weights = "model/model.safetensors"
    assert (found / weights).read_bytes() == (expected / weights).read_bytes()
    assert not list(found.rglob("*.tmp"))


def same_tensors(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []


def momenta(checkpoint: dict) -> dict:
    return {key: state["momentum_buffer"] for key, state in checkpoint["optimizer"]["sgd"]["state"].items()}


def step_of(config: Config) -> int:
    """The step of the last checkpoint; 0 without one."""
    last = config.run_folder / "checkpoints/last.pt"
    return load_checkpoint(last)["state"]["step"] if last.exists() else 0
