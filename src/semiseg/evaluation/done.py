"""What a folder of predictions remembers: which model made them, how, and of which files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semiseg.config.predicting import PredictOptions
from semiseg.data.dataset import Color
from semiseg.runtime.files import append_line, plain, write_json

PREDICT = "predict.json"
_PARTS = ".done-*.jsonl"


class Done:
    """The records of pictures that this model has predicted into `out` with these options, by the pictures' names."""

    def __init__(
        self, out: Path, model: str, options: PredictOptions, classes: tuple[str, ...], colors: tuple[Color, ...]
    ) -> None:
        self.out = out
        document = {"model_sha256": model, "options": asdict(options), "classes": classes, "colors": colors}
        self.document: dict[str, Any] = json.loads(json.dumps(plain(document)))
        self.written = _read(out / PREDICT)
        self.records: dict[str, dict[str, Any]] = {}
        self.started = self.adds = False  # whether this process has written the document, and a record
        self.lock = threading.Lock()

    @property
    def is_of_another(self) -> bool:
        """Whether the folder holds predictions of another model, or with other options."""
        return self.written is not None and self.written != self.document

    def start(self, rank: int) -> None:
        """Say whose the folder is, before the first picture; records of another model are removed by process 0.

        The names of records hold a hash of all that the document says, so no process takes another model's for its own.
        """
        with self.lock:
            if not self.started:
                write_json(self.out / PREDICT, self.document)
                own = set(self.out.glob(self._part("*")))
                for part in self.out.glob(_PARTS) if rank == 0 else ():
                    if part not in own:
                        part.unlink(missing_ok=True)
                self.started = True

    def _part(self, rank: object) -> str:
        """The name of a process's records, a line for each picture."""
        return f".done-{hashlib.sha256(json.dumps(self.document).encode()).hexdigest()[:12]}-{rank}.jsonl"

    def read(self) -> Done:
        """Read the records of all processes; a line that was cut short when a process was killed does not count."""
        self.records = {}
        for part in sorted(self.out.glob(self._part("*"))):
            for line in part.read_text("utf-8", errors="surrogateescape").splitlines():
                try:
                    record = json.loads(line)
                    self.records[record["name"]] = record
                except (ValueError, KeyError, TypeError):
                    continue
        return self

    def add(self, rank: int, record: dict[str, Any]) -> None:
        """Remember a picture, with all its files written."""
        self.records[record["name"]] = record
        first = "" if self.adds else "\n"  # behind a line that was cut short
        self.adds = True
        append_line(self.out / self._part(rank), f"{first}{json.dumps(record)}\n")

    def has(self, name: str, path: Path) -> bool:
        """Whether the picture is done: from the same file, and its mask is still there."""
        record = self.records.get(name)
        if record is None or not (self.out / record["mask"]).is_file():
            return False
        try:
            return record["file"] == identity(path)
        except OSError:
            return False


def identity(path: Path) -> list[int]:
    """Size and time of a file, by which a changed one is known."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(path: Path) -> Mapping[str, Any] | None:
    """The document; one that cannot be read is none of ours, as an empty one."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
