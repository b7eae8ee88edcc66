"""A folder that is planned and trained by one command, scored on images with masks that no training saw.

    python benchmarks/planned.py DATA OUT --labeled splits/12/labeled.txt --rest val.txt --minutes 20 --seeds 0-2
    python benchmarks/planned.py DATA OUT --table

DATA holds images/, masks/, classes.txt, train.txt and the lists named. A plain folder is made of it, without lists: the
images of train.txt and the masks of the list `--labeled`. Each seed is one `semiseg train FOLDER`, on one thread. The
model that it recommends is scored on the images of each list `--rest`, and on the first of them also both models of
every fold, which are trained on the same masks. What is in OUT is not computed again, and a stopped training goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

import semiseg
from semiseg.runtime.provenance import provenance


def names(file: Path) -> list[str]:
    """The images in a list."""
    return file.read_text("utf-8").split()


def plain_folder(data: Path, out: Path, images: list[str], masked: list[str]) -> Path:
    """`out` with images/, masks/ and classes.txt; made anew only where it is not there."""
    if out.is_dir():
        return out
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for folder, ids in (("images", images), ("masks", masked)):
        files = {path.stem: path for path in (data / folder).iterdir()}
        (part / folder).mkdir(parents=True)
        for id_ in ids:
            shutil.copy(files[Path(id_).stem], part / folder)
    shutil.copy(data / "classes.txt", part)
    return part.rename(out)


def score(run: Path, rest: Path) -> float:
    """mIoU on the images of `rest`, per cent."""
    found = semiseg.evaluate(run, images=rest / "images", masks=rest / "masks", out=run / f"on-{rest.name}")
    return found["scores"]["miou"]["value"]


def one_seed(seed: int, photos: Path, rest: list[Path], out: Path, typed: argparse.Namespace) -> dict[str, Any]:
    """The verdict of one seed, and the scores of its models on images that they never saw."""
    run = out / f"run-{seed}"
    given = {"train.threads": 1, **dict(option.split("=", 1) for option in typed.option)}
    going_on = (run / "plan.json").is_file()
    planned = semiseg.train(photos, minutes=typed.minutes, run=run, seed=seed, resume=going_on, **given)
    folds = {
        kind: [score(fold, rest[0]) for fold in sorted(run.glob(f"folds/fold*-{kind}"))]
        for kind in ("method", "baseline")
    }
    verdict = json.loads((run / "verdict.json").read_text("utf-8"))
    return {
        "seed": seed,
        "minutes": typed.minutes,
        "steps": planned.config.train.steps,
        "verdict": verdict,
        "rest": {each.name: score(run, each) for each in rest},
        "folds": folds,
        **provenance(torch.device("cpu")),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a row for each seed, and the means."""
    rests = list(rows[0]["rest"])
    heads = ["seed", "steps", "in the folds: method less baseline (95 %)", "verdict", "advice"]
    heads += [f"fold models on {rests[0]}: method / baseline", *(f"advised model on {name}" for name in rests)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        verdict = row["verdict"]
        low, high = verdict["interval"]
        method, baseline = (np.mean(row["folds"][kind]) for kind in ("method", "baseline"))
        cells = [str(row["seed"]), str(row["steps"]), f"{verdict['difference']:+.1f} ({low:+.1f} to {high:+.1f})"]
        cells += [verdict["verdict"], verdict["chosen"], f"{method:.1f} / {baseline:.1f}"]
        cells += [f"{row['rest'][name]:.1f}" for name in rests]
        lines.append(f"| {' | '.join(cells)} |")
    method, baseline = (np.mean([row["folds"][kind] for row in rows]) for kind in ("method", "baseline"))
    means = [f"{np.mean([row['rest'][name] for row in rows]):.1f}" for name in rests]
    lines.append(f"| mean |  |  |  |  | {method:.1f} / {baseline:.1f} | {' | '.join(means)} |")
    return lines


def main() -> None:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labeled", help="list of the images that have masks, in DATA")
    parser.add_argument("--rest", nargs="+", default=["val.txt"], help="lists of images to score, in DATA")
    parser.add_argument("--seeds", default="0-2", help="first and last")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the training")
    parser.add_argument("--table", action="store_true", help="print the table of what is in OUT, and train nothing")
    typed = parser.parse_args()
    if not typed.table:
        data, out = typed.data, typed.out
        photos = plain_folder(data, out / "photos", names(data / "train.txt"), names(data / typed.labeled))
        rest = [plain_folder(data, out / Path(name).stem, *[names(data / name)] * 2) for name in typed.rest]
        first, _, last = typed.seeds.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            file = out / f"{seed}.json"
            if not file.is_file():
                file.write_text(json.dumps(one_seed(seed, photos, rest, out, typed)), "utf-8")
    rows = [json.loads(file.read_text("utf-8")) for file in sorted(typed.out.glob("[0-9]*.json"))]
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    main()
