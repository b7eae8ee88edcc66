"""What lies in a run folder beside checkpoints/ and model/, and its record.

metrics.jsonl holds one object per logged step and evaluation. It is the source of truth; all else is a view of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semiseg.runtime.distributed import rank
from semiseg.runtime.files import append_line, plain, write_atomically

METRICS, CONFIG, RESULT = "metrics.jsonl", "config.yaml", "result.json"
PLAN, VERDICT = "plan.json", "verdict.json"
"""Of a folder of several trainings that `semiseg train FOLDER` made: what was planned, and which model was the better.
"""
CONFUSIONS = "confusions.npz"
"""Of the last step: `names` (N,) of the validation images, and each predictor's counts (N, C, C)."""


def run_behind(folder: Path) -> Path:
    """The run folder whose model `folder` holds: `folder` itself, or the chosen one of several trainings below it.

    Raises ValueError where there are several and none is chosen yet, or the file that says which is damaged.
    """
    if not (folder / PLAN).is_file():
        return folder
    verdict = folder / VERDICT
    if not verdict.is_file():
        raise ValueError(
            f"{folder} holds several trainings, and they are not finished: go on with the same `semiseg train` and "
            f"--resume. A finished one of them can be given by its own folder below {folder}"
        )
    try:
        chosen = json.loads(verdict.read_text("utf-8"))["model"]
        if not isinstance(chosen, str) or not (folder / chosen).resolve().is_relative_to(folder.resolve()):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{verdict} does not say which training was chosen: remove it, and give `semiseg train` again with "
            "--resume to write it"
        ) from None
    return folder / chosen


class Record:
    """The record of a run, open for appending.

    `resume_at` drops what an interrupted run wrote after that step, and a line it left unfinished: the resumed run
    writes them again. Of several processes the first writes.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        self.path, self.writes = path, rank() == 0
        self.back_to(resume_at)

    def back_to(self, step: int) -> None:
        """Drop what was written after `step`, and a line that was left unfinished.

        Raises ValueError where a line before that is damaged: nothing is dropped then.
        """
        if not self.writes:
            return
        kept = [entry for entry in read_record(self.path) if entry["step"] <= step]
        text = "".join(_line(entry) for entry in kept)
        write_atomically(self.path, lambda file: file.write(text.encode()))

    def add(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append {kind, step, **values}; `step` counts the optimizer steps that are done."""
        if self.writes:
            append_line(self.path, _line({"kind": kind, "step": step, **values}))


def read_record(path: Path) -> list[dict[str, Any]]:
    """The entries of a record, an unfinished last line left out; none if there is no file.

    Raises ValueError, naming the file and the line, for any other line that is no entry.
    """
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = []
    seen: set[tuple[str, int]] = set()
    *whole, unfinished = path.read_bytes().split(b"\n")  # bytes: a line may end in the middle of a character
    for number, line in enumerate([*whole, unfinished], 1):
        entry = _entry(line)
        if entry is None and number > len(whole):
            break
        if entry is None:
            wrong = f"expected an object with kind and step, found {line[:60]!r}"
        elif entries and entry["step"] < entries[-1]["step"]:
            wrong = f"step {entry['step']} stands behind step {entries[-1]['step']}"
        elif entry["kind"] in ("train", "evaluation") and (entry["kind"], entry["step"]) in seen:
            wrong = f"there is another {entry['kind']} of step {entry['step']} before it"
        else:
            entries.append(entry)
            seen.add((entry["kind"], entry["step"]))
            continue
        raise ValueError(
            f"{path}, line {number}, is damaged: {wrong}. Remove that line, or restore it from a copy; what stands in "
            "the other lines is kept"
        )
    return entries


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(entry, dict) and isinstance(entry.get("kind"), str) and type(entry.get("step")) is int
    return entry if good else None


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(plain(entry), ensure_ascii=False) + "\n"
