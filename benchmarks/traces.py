"""Whether a change of the code changed what a method computes: fixed-seed loss traces of every method.

    python benchmarks/traces.py record OUT.json      trains every method 8 steps on drawn scenes, half a minute
    python benchmarks/traces.py compare OUT.json OTHER.json

Each of METHODS is recorded with its defaults and, where it takes the paper's prototypes, with them too; VARIANTS adds
the paths that defaults do not take. Record both on one machine: another processor rounds in another way.
"""

from __future__ import annotations

import json
import sys
import tempfile
from math import isnan, nan
from pathlib import Path

from rich.console import Console

import semiseg

STEPS = 8
SHARED: dict[str, object] = {
    "train.steps": STEPS,
    "train.batch_labeled": 4,
    "train.batch_unlabeled": 4,
    "train.log_every": 1,
    "train.evaluate_every": STEPS,
    "train.checkpoint_every": STEPS,
    "train.threads": 1,
    "train.workers": 0,
    "train.device": "cpu",
    "augment.crop_height": 48,
    "augment.crop_width": 48,
    "data.scenes.labeled": 6,
    "data.scenes.unlabeled": 12,
    "data.scenes.val": 2,
    "method.warmup": 0.25,
}
PLUG_INS = ("fixmatch", "unimatch", "unimatch_v2", "cps", "u2pl")
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{f"{method}+prototypes": (method, {"prototypes": True}) for method in PLUG_INS},
    "prototype without linear": ("prototype", {"method.linear": False}),
    "prototype without prototype": ("prototype", {"prototypes": False}),
    "prototype, fixed": ("prototype", {"prototypes.update": "none"}),
    "prototype, per pixel, every pixel": ("prototype", {"prototypes.update": "per_pixel", "prototypes.grid": "none"}),
    "prototype, ClassMix, kept, accumulated": (
        "prototype",
        {"method.mix": "classmix", "method.denominator": "kept", "train.accumulate": 2},
    ),
    "ael, pasting": ("ael", {"method.paste_probability": 1.0, "method.bank_area": 0.01, "method.box_area": 0.01}),
    "u2pl, negatives": ("u2pl", {"method.low_rank": 1}),
}


def record(out: Path) -> None:
    """Write {variant: {step: {loss: value}}}."""
    found = {}
    everything = {**{name: (name, {}) for name in semiseg.METHODS}, **VARIANTS}
    for number, (name, (method, options)) in enumerate(everything.items()):
        with tempfile.TemporaryDirectory() as folder:
            own = {} if method == "supervised" else {"method.threshold": 0.2}
            given = {**SHARED, **options, "method": method, "run": folder, "seed": number}
            if method == "supervised":
                del given["method.warmup"]
            elif "threshold" in semiseg.load_config("demo", {"method": method}).method_options.__dataclass_fields__:
                given |= own
            semiseg.train(semiseg.load_config("demo", given), console=Console(quiet=True))
            found[name] = trace(Path(folder))
        print(f"{name}: {len(found[name])} steps", file=sys.stderr)
    out.write_text(json.dumps(found, indent=1))


def trace(run: Path) -> dict[str, dict[str, float]]:
    """The losses and shares of each step, from the run's metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        str(line["step"]): {k: v for k, v in line.items() if k not in ("kind", "step", "lr", "seconds")}
        for line in lines
        if line["kind"] == "train"
    }


def compare(one: Path, other: Path) -> int:
    """Print a line for each trace; 1 where any differ, else 0."""
    ours, theirs = (json.loads(path.read_text()) for path in (one, other))
    differ = ours.keys() ^ theirs.keys()
    for name in sorted(differ):
        print(f"{name}: recorded in one of the files only")
    for name in (name for name in ours if name in theirs):
        apart = list(differences(ours[name], theirs[name]))
        differ |= {name} if apart else set()
        print(f"{name}: {'; '.join(apart) or 'equal, every digit'}")
    return 1 if differ else 0


def differences(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> list[str]:
    """For each loss that differs: from which step on, and by how much at most, relative."""
    found = []
    for name in sorted({name for steps in (ours, theirs) for values in steps.values() for name in values}):
        pairs = [(int(step), ours[step].get(name, nan), theirs.get(step, {}).get(name, nan)) for step in ours]
        apart = [(step, a, b) for step, a, b in pairs if a != b and not (isnan(a) and isnan(b))]
        if apart:
            worst = max(nan if isnan(a) or isnan(b) else abs(a - b) / max(abs(b), 1e-12) for _, a, b in apart)
            found.append(f"{name} apart from step {apart[0][0]} on, by {worst:.1e} at most")
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", out]:
            record(Path(out))
        case ["compare", one, other]:
            sys.exit(compare(Path(one), Path(other)))
        case _:
            sys.exit(__doc__)
