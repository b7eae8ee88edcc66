"""Reading ahead of the network and writing behind it, in threads, within a bound on memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semiseg.data.bands import Bands
from semiseg.data.deep import look
from semiseg.data.rasters import Raster, open_raster
from semiseg.runtime.ahead import Budget, ahead, spare_threads

CHUNK = 16
"""Pictures, in the order of their names, that one process takes together; no batch reaches over two chunks."""

_HELD = 2**26  # pixels that are read and not yet written; one picture may have more
_SIZES_AHEAD = 4 * CHUNK

Task = tuple[int, str, Path]
"""A picture: the number of its chunk, its name, its file."""


@dataclass(frozen=True)
class Picture:
    """A picture that is read, or of which windows can be read."""

    name: str
    path: Path
    raster: Raster
    held: int  # pixels, of the budget


@dataclass
class Group:
    """Pictures of one size that are predicted together."""

    tasks: list[Task]
    size: tuple[int, int] | None  # None: the header did not tell
    number: int = -1  # of its request for memory
    pictures: list[Picture] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)


def shares(paths: dict[str, Path], rank: int, processes: int) -> list[Task]:
    """The pictures of process `rank`: every so-many-th chunk. So batches are the same, whoever makes them."""
    return [
        (place // CHUNK, name, path)
        for place, (name, path) in enumerate(paths.items())
        if place // CHUNK % processes == rank
    ]


class Reading:
    """Groups of pictures, read ahead. Give back what a picture held once it is written."""

    def __init__(
        self, tasks: Sequence[Task], is_done: Callable[[str, Path], bool], at_once: int, bands: Bands | None = None
    ) -> None:
        """`at_once`: the most pixels of a group of several. `bands`: as in `open_raster`."""
        self.tasks, self.is_done, self.at_once, self.bands = tasks, is_done, at_once, bands
        self.budget = Budget(max(_HELD, 2 * at_once))
        self.threads = spare_threads()

    def give_back(self, picture: Picture) -> None:
        """A picture is written, or will not be."""
        picture.raster.close()
        self.budget.give(picture.held)

    @contextmanager
    def groups(self) -> Iterator[Iterator[Group]]:
        """The groups in order, those of pictures that are all done without them."""
        sizing, pool = ThreadPoolExecutor(1), ThreadPoolExecutor(self.threads)
        try:
            sized = ahead(sizing, _sized, self.tasks, _SIZES_AHEAD)
            yield ahead(pool, self._read, self._numbered(self._planned(sized)), 2 * self.threads)
        finally:
            self.budget.end()
            sizing.shutdown(cancel_futures=True)
            pool.shutdown(cancel_futures=True)

    def _planned(self, sized: Iterable[tuple[Task, tuple[int, int] | None]]) -> Iterator[Group]:
        group: Group | None = None
        for task, size in sized:
            fits = group is not None and size is not None and group.size == size and group.tasks[0][0] == task[0]
            if group is not None and fits and size is not None:
                fits = (len(group.tasks) + 1) * size[0] * size[1] <= self.at_once
            if group is not None and not fits:
                yield group
            if group is None or not fits:
                group = Group([], size)
            group.tasks.append(task)
        if group is not None:
            yield group

    def _numbered(self, groups: Iterable[Group]) -> Iterator[Group]:
        number = 0
        for group in groups:
            if not all(self.is_done(name, path) for _, name, path in group.tasks):
                group.number, number = number, number + 1
            yield group

    def _read(self, group: Group) -> Group:
        if group.number < 0:
            return group
        pixels = group.size[0] * group.size[1] if group.size else 0
        self.budget.take(group.number, pixels * len(group.tasks))
        for _, name, path in group.tasks:
            try:
                group.pictures.append(Picture(name, path, _opened(path, self.bands), pixels))
            except (ValueError, OSError, MemoryError) as error:
                group.failed[path] = reason(error, path)
                self.budget.give(pixels)
        return group


def _sized(task: Task) -> tuple[Task, tuple[int, int] | None]:
    """A file that is damaged is told about when it is read."""
    try:
        stored = look(task[2])
        return task, (stored.height, stored.width)
    except (ValueError, OSError):
        return task, None


def _opened(path: Path, bands: Bands | None) -> Raster:
    raster = open_raster(path, bands)
    try:
        blanks = [False]
        for _, blank in raster.blanks():
            blanks = [bool(blank.all())]
            if not blanks[0]:
                break
        if blanks[0]:
            raise ValueError(f"{path} has no data: every pixel has the value that stands for none. Take it out")
    except BaseException:
        raster.close()
        raise
    return raster


def reason(error: BaseException, path: Path) -> str:
    """One line that names the picture and says why it is left out."""
    text = str(error).partition("\n")[0] or type(error).__name__
    return text if str(path) in text else f"{path}: {text}"


class Writing:
    """Work handed to threads, and what becomes of it, in order. Use it as a context; it ends when all is done.

    The first error in any piece of work stops all others that have not begun, and is raised in the thread that waits.
    """

    def __init__(self, each: Callable[[Any], None]) -> None:
        """`each` is called with every result, by the thread that waits."""
        self.each = each
        self.pool = ThreadPoolExecutor(spare_threads())
        self.waiting: deque[Future[Any]] = deque()
        self.broken = threading.Event()

    def put(self, work: Callable[[], Any]) -> None:
        """Begin `work` as soon as a thread is free."""
        self.waiting.append(self.pool.submit(self._run, work))
        while self.waiting and self.waiting[0].done():
            self._take()

    def _run(self, work: Callable[[], Any]) -> Any:
        if self.broken.is_set():
            return None
        try:
            return work()
        except BaseException:
            self.broken.set()
            raise

    def _take(self) -> None:
        made = self.waiting.popleft().result()
        if made is not None:
            self.each(made)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.broken.set()
        try:
            while self.waiting and kind is None:
                self._take()
        finally:
            self.broken.set()
            self.pool.shutdown(cancel_futures=True)
