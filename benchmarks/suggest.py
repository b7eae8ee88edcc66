"""Whether the images that `suggest` names teach more than images drawn at random, on drawn scenes.

    python benchmarks/suggest.py OUT --seeds 0-9       # 8 s of one core a training, five trainings a seed
    python benchmarks/suggest.py OUT --table           # the table of all seeds in OUT so far

Each seed draws other scenes. A supervised model learns from a few of them. Ten unlabelled ones are suggested with it,
and ten are drawn at random, `--draws` times. New models learn from the few and these ten, under the same options, and
as many from the suggested ten. The masks of the ten are the drawn ones. What is in OUT is not computed again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

import semiseg
from semiseg.analysis.suggest import suggest
from semiseg.config.options import DataOptions, SceneOptions
from semiseg.data.sets.scenes import open_scenes
from semiseg.runtime.provenance import provenance

SCENES = SceneOptions(labeled=6, unlabeled=200, val=100, height=48, width=64)
COUNT = 10
TRAINING = {
    "method": "supervised", "augment.crop_height": 40, "augment.crop_width": 40, "network.channels": 16,
    "train.threads": 1, "train.steps": 300, "train.evaluate_every": 300, "train.checkpoint_every": 300,
}  # fmt: skip
QUIET = Console(quiet=True)


def dataset(scenes: SceneOptions, added: list[int]) -> semiseg.Dataset:
    """The scenes with the unlabelled ones at `added` among the labelled; the others stay unlabelled."""
    drawn = open_scenes(DataOptions(dataset="scenes", scenes=scenes))
    labelled = [(drawn.labeled, index) for index in range(len(drawn.labeled))]
    labelled += [(drawn.unlabeled, index) for index in added]
    return semiseg.Dataset.from_items(
        drawn.classes,
        labeled=[(images.image(index), images.mask(index)) for images, index in labelled],
        val=[(drawn.val.image(index), drawn.val.mask(index)) for index in range(len(drawn.val))],
        unlabeled=[drawn.unlabeled.image(index) for index in range(len(drawn.unlabeled)) if index not in added],
        colors=drawn.colors,
    )


def score(run: semiseg.Run) -> float:
    """mIoU on the validation scenes at the last step, per cent."""
    return run.result["last"]["val"]["miou"]


def one_seed(seed: int, out: Path, draws: int, training: dict[str, object], scenes: SceneOptions) -> dict[str, object]:
    """The scores of one seed: of the few labels, with the suggested ten, and with each draw of ten."""
    scenes = replace(scenes, seed=seed)

    def train(name: str, added: list[int], number: int = 0) -> semiseg.Run:
        place = {"run": out / f"{seed}-{name}", "seed": seed + 1000 * number}
        return semiseg.train("demo", dataset=dataset(scenes, added), console=QUIET, resume=True, **training, **place)

    first = train("few", [])
    found = suggest(first.folder, COUNT, dataset=first.dataset, console=QUIET)
    suggested = [int(each.name.rpartition("-")[2]) for each in found.chosen]
    rng = np.random.default_rng(seed)
    drawn = [sorted(rng.permutation(scenes.unlabeled)[:COUNT].tolist()) for _ in range(draws)]
    return {
        "seed": seed,
        "few": score(first),
        "suggested": [score(train(f"suggested{number}", suggested, number)) for number in range(draws)],
        "random": [score(train(f"random{number}", places, number)) for number, places in enumerate(drawn)],
        "chosen": suggested,
        **provenance(torch.device("cpu")),
    }


def table(rows: list[dict]) -> list[str]:
    """Lines of Markdown: a row for each seed, and the mean difference with its standard error."""
    lines = [
        "| seed | few labels | 10 random more | 10 suggested more | difference |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    random = np.array([np.mean(row["random"]) for row in rows])
    few, suggested = (np.array([np.mean(row[name]) for row in rows]) for name in ("few", "suggested"))
    gains = suggested - random
    for row, *cells, gain in zip(rows, few, random, suggested, gains, strict=True):
        lines.append(f"| {row['seed']} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {gain:+.2f} |")
    means = " | ".join(f"**{values.mean():.2f}**" for values in (few, random, suggested))
    lines.append(f"| **mean** | {means} | **{gains.mean():+.2f}** |")
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else float("nan")
    lines += [
        "",
        f"Suggested less random: {gains.mean():+.2f} mIoU, standard error {error:.2f} over {len(gains)} seeds;",
    ]
    lines.append(f"better in {(gains > 0).sum()} of {len(gains)}.")
    return lines


def main() -> None:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0-9", help="first and last")
    parser.add_argument(
        "--draws",
        type=int,
        default=2,
        help="of ten random images, and trainings from the suggested ones; their means count",
    )
    parser.add_argument("--table", action="store_true", help="print the table of what is in OUT, and train nothing")
    typed = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = typed.seeds.partition("-")
    for seed in () if typed.table else range(int(first), int(last or first) + 1):
        file = typed.out / f"{seed}.json"
        if not file.is_file():
            made = json.dumps(one_seed(seed, typed.out, typed.draws, TRAINING, SCENES))
            file.write_text(made, "utf-8")
    rows = [json.loads(file.read_text("utf-8")) for file in typed.out.glob("*.json")]
    print(*table(sorted(rows, key=lambda row: row["seed"])), sep="\n")


if __name__ == "__main__":
    main()
