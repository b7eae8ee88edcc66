"""What lies in a run folder beside checkpoints/ and model/, and its record.

metrics.jsonl holds one object per logged step and evaluation. It is the source of truth; all else is a view of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semiseg.runtime.distributed import rank
from semiseg.runtime.files import plain, write_atomically

METRICS, CONFIG, RESULT = "metrics.jsonl", "config.yaml", "result.json"
CONFUSIONS = "confusions.npz"
"""Of the last step: `names` (N,) of the validation images, and each predictor's counts (N, C, C)."""


class Record:
    """The record of a run, open for appending.

    `resume_at` drops what an interrupted run wrote after that step, and a line it left unfinished: the resumed run
    writes them again. A run that starts at step 0 starts with an empty record. Of several processes the first writes.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        self.path, self.writes = path, rank() == 0
        if not self.writes:
            return
        kept = [entry for entry in read_record(path) if entry["step"] <= resume_at] if resume_at else []
        text = "".join(_line(entry) for entry in kept)
        write_atomically(path, lambda file: file.write(text.encode()))

    def add(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append {kind, step, **values}; `step` counts the optimizer steps that are done."""
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"kind": kind, "step": step, **values}))


def read_record(path: Path) -> list[dict[str, Any]]:
    """The entries of a record, an unfinished last line left out; none if there is no file."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_bytes().splitlines():  # bytes: a line may end in the middle of a character
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(plain(entry), ensure_ascii=False) + "\n"
