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
from semiseg.data.decode_cache import file_key
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
        self.earlier: set[str] = (
            set()
        )  # pictures of which only an earlier version has a record, without the file's path
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
        """Read the records of all processes; a line that was cut short when a process was killed does not count.

        Of several records of one name, which different processes may have written, the one of the last turn counts.
        """
        self.records, self.earlier = {}, set()
        for part in sorted(self.out.glob(self._part("*"))):
            for line in part.read_text("utf-8", errors="surrogateescape").splitlines():
                try:
                    record = json.loads(line)
                    name = record["name"]
                    if "turn" not in record:
                        self.earlier.add(name)
                    elif name not in self.records or record["turn"] > self.records[name]["turn"]:
                        self.records[name] = record
                except (ValueError, KeyError, TypeError):
                    continue
        self.earlier -= self.records.keys()
        return self

    def forget(self, rank: int, name: str) -> None:
        """Before a picture's files are written anew: the record of the files that were there no longer counts."""
        if name in self.records:
            self.add(rank, {"name": name, "file": None})

    def add(self, rank: int, record: dict[str, Any]) -> None:
        """Remember a picture, with all its files written."""
        with self.lock:
            before = self.records.get(record["name"])
            record = record | {"turn": 1 if before is None else before["turn"] + 1}
            self.records[record["name"]] = record
            first = "" if self.adds else "\n"  # behind a line that was cut short
            self.adds = True
            append_line(self.out / self._part(rank), f"{first}{json.dumps(record)}\n")

    def has(self, name: str, path: Path) -> bool:
        """Whether the picture is done: from the same file in the same place, and its mask is still there."""
        record = self.records.get(name)
        if record is None or record["file"] is None or record["file"] != file_key(path):
            return False
        return (self.out / record["mask"]).is_file()


def _read(path: Path) -> Mapping[str, Any] | None:
    """The document; one that cannot be read is none of ours, as an empty one."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
