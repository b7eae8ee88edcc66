"""The kinds of faults. Each function disturbs a run, says what it did, and notes what should not have come of it."""

from __future__ import annotations

import re
import signal
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from semiseg.studies.faults import hooks
from semiseg.studies.faults.places import enlarge, read_only, small_disk
from semiseg.studies.faults.process import Running
from semiseg.studies.faults.round import Disturb, NotPossibleError, Round

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SPACE = 64 << 20  # bytes, more than a run needs


@dataclass(frozen=True)
class Kind:
    """A kind of fault, and how often it is drawn."""

    disturb: Disturb
    weight: int = 2
    devices: int = 1


def kill(round_: Round) -> None:
    """SIGKILL at random moments, in up to three lives."""
    for _ in range(round_.rng.randint(1, 3)):
        process, moment = round_.start(), round_.moment()
        process.sleep(moment)
        process.send(signal.SIGKILL)
        round_.expect(process.end(), (-signal.SIGKILL, 0))
        round_.tell(f"killed after {moment:.2f} s")


def kill_in_a_write(round_: Round) -> None:
    """SIGKILL in a file that is written whole or not at all, with a random part of it on the disk."""
    place = round_.rng.choice(("half", "half", "whole", "named"))
    write, share = round_.rng.randint(1, round_.reference.writes), round_.rng.random()
    round_.expect(round_.start(partial(hooks.die_writing, write, place, share)).end(), (-signal.SIGKILL, 0))
    round_.tell(f"killed in write {write} of {round_.reference.writes} ({place}, {share:.0%})")


def kill_a_worker(round_: Round) -> None:
    """SIGKILL of a process that loads images: the run says so, or goes on without it."""
    round_.workers = max(1, round_.workers)
    process = round_.start()
    victim = _one_of_the_others(round_, process)
    round_.expect(process.end(), (0, 1, 2), (r"--resume",))
    round_.tell(f"a loading process was killed{'' if victim else ' too late'}")


def kill_a_rank(round_: Round) -> None:
    """SIGKILL of one of two processes that train together: both end."""
    round_.workers = 0
    process = round_.start()
    victim = _one_of_the_others(round_, process)
    # Whoever waits for the dead one may fail before it is ended, and tells of the broken connection.
    round_.expect(process.end(), (0, 1, 2), (r"ended by SIGKILL", r"--resume"), traceback=True)
    round_.tell(f"one of two processes was killed{'' if victim else ' too late'}")


def _one_of_the_others(round_: Round, process: Running) -> int | None:
    if not Path("/proc").is_dir():
        raise NotPossibleError("this system does not list the processes of a session")
    moment = round_.moment(0.0, 0.6)
    process.sleep(60, lambda: bool(process.others()))
    process.sleep(moment)
    others = sorted(process.others())
    if not process.alive or not others:
        return None
    victim = round_.rng.choice(others)
    process.send(signal.SIGKILL, victim)
    return victim


def stop_by_signal(round_: Round) -> None:
    """SIGINT, SIGTERM or SIGHUP at a random moment: the exit status says which."""
    number, process, moment = round_.rng.choice(SIGNALS), round_.start(), round_.moment()
    process.sleep(moment)
    process.send(number)
    round_.expect(process.end(), (128 + number, -number, 0))
    round_.tell(f"{number.name} after {moment:.2f} s")


def two_at_once(round_: Round) -> None:
    """Two processes on one run folder: one trains, the other is refused by host and process."""
    first, moment = round_.start(), round_.moment(0.0, 0.5)
    first.sleep(moment)
    round_.story.append(f"a second process after {moment:.2f} s")
    second = round_.start()
    endings = {process.pid: process.end() for process in (second, first)}
    done = [pid for pid, ending in endings.items() if ending.code == 0]
    for pid, ending in endings.items():
        other = next(each for each in endings if each != pid)
        if pid not in done:
            round_.expect(ending, (2,), (re.escape(socket.gethostname()), rf"\b{other}\b"))
    if len(done) != 1:
        round_.problems.append(f"{len(done)} of 2 processes trained; expected one")
    round_.tell("both ended")


def fill_the_disk(round_: Round) -> None:
    """The disk is full in the middle: the message has the file and the space, and what was there stays."""
    used = sum(path.stat().st_size for path in round_.reference.run.rglob("*") if path.is_file())
    size, words = int(used * round_.rng.uniform(0.02, 0.95)), (re.escape(str(round_.run)), r"free|space")
    with small_disk(round_.run.parent, size) as made:
        # A limit stops no file that is smaller: the largest is a checkpoint.
        hook = None if made else partial(hooks.limit_file_size, size // 3)
        round_.expect(round_.start(hook).end(), (0, 2), words)
        round_.tell(f"{size >> 10} kB of {used >> 10} ({'a small disk' if made else 'a limit for a file'})")
        if made:
            enlarge(round_.run.parent, SPACE)
        round_.finish()


def read_only_folder(round_: Round) -> None:
    """The run folder can no longer be written to: the message names a file in it."""
    process = round_.start()
    process.sleep(60, (round_.run / "config.yaml").exists)
    process.sleep(round_.moment(0.0, 0.7))
    if not round_.run.is_dir():
        process.kill()
        raise NotPossibleError("the run ended before it made its folder")
    with read_only(round_.run) as made:
        if not made:
            process.kill()
            raise NotPossibleError("this process may not mount, and permissions do not hold for root")
        round_.expect(process.end(), (0, 2), (re.escape(str(round_.run)),))
    round_.tell("the folder became read-only")


def spoil_a_file(round_: Round) -> None:
    """An image or a mask vanishes, shrinks or becomes something else while the run is on: the message names it."""
    process = round_.start()
    process.sleep(60, (round_.run / "config.yaml").exists)
    process.sleep(round_.moment(0.0, 0.4))
    victim = round_.rng.choice(sorted(path for path in round_.data.rglob("*.png")))
    fate = round_.rng.choice(("gone", "empty", "shrunk", "text", "folder", "size"))
    whole = victim.read_bytes()
    victim.unlink()
    if fate == "folder":
        victim.mkdir()
    elif fate == "size":
        Image.new("RGB" if victim.parent.name == "images" else "L", (9, 7)).save(victim)
    elif fate != "gone":
        victim.write_bytes({"empty": b"", "text": b"not a picture\n", "shrunk": whole[: len(whole) // 2]}[fate])
    # A loader that has read it before need not notice; an image of another size without a mask is a picture as any.
    labeled = (round_.data / "masks" / victim.name).exists() or victim.parent.name == "masks"
    if fate == "size" and not labeled:
        process.kill()
    else:
        round_.expect(process.end(), (0, 2), (re.escape(victim.name),))
    if victim.is_dir():
        victim.rmdir()
    victim.write_bytes(whole)
    round_.tell(f"{victim.parent.name}/{victim.name}: {fate}")


def read_short(round_: Round) -> None:
    """Reads give fewer bytes than asked for, and signals interrupt them, in a life that is killed and in the next."""
    hook = partial(hooks.read_short, (round_.data, round_.run), round_.rng.randrange(1 << 30))
    process, moment = round_.start(hook), round_.moment(0.3, 1.0)
    process.sleep(moment)
    process.send(signal.SIGKILL)
    round_.expect(process.end(), (-signal.SIGKILL, 0))
    round_.tell(f"short reads, killed after {moment:.2f} s")
    round_.expect(round_.start(hook).end(), (0,))
    round_.tell("short reads to the end")


KINDS: dict[str, Kind] = {
    "kill": Kind(kill, 5),
    "write": Kind(kill_in_a_write, 4),
    "worker": Kind(kill_a_worker),
    "rank": Kind(kill_a_rank, 1, devices=2),
    "signal": Kind(stop_by_signal, 3),
    "two": Kind(two_at_once),
    "full": Kind(fill_the_disk),
    "readonly": Kind(read_only_folder, 1),
    "files": Kind(spoil_a_file, 3),
    "short": Kind(read_short),
}
"""Every kind by name."""
