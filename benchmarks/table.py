"""Markdown tables from the result.json of finished runs: python benchmarks/table.py runs/nuclei-12-*"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

Results = list[dict[str, Any]]


def scores(result: dict[str, Any], subset: str) -> list[float]:
    """Last linear, last prototype, best linear, best prototype mIoU; NaN where a method has no such predictor."""
    return [
        result[which][subset].get(predictor, {}).get("miou", float("nan"))
        for which in ("last", "best")
        for predictor in ("linear", "prototype")
    ]


def row(cells: list[object]) -> str:
    shown = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "| " + " | ".join("-" if cell == "nan" else cell for cell in shown) + " |"


def table(results: Results, subset: str) -> str:
    """One row per run and one mean per method."""
    head = ["method", "seed", "last linear", "last prototype", "best linear", "best prototype", "best step", "seconds"]
    lines = [row([*head]), row(["---"] * len(head))]
    by_method = defaultdict(list)
    for result in sorted(results, key=lambda r: (r["method"], r["seed"])):
        by_method[result["method"]].append(result)
    for method, runs in by_method.items():
        for run in runs:
            lines.append(row([method, run["seed"], *scores(run, subset), run["best"]["step"], round(run["seconds"])]))
        means = [mean(column) for column in zip(*(scores(run, subset) for run in runs), strict=True)]
        lines.append(row([f"**{method}**", "mean", *means, "", round(mean(run["seconds"] for run in runs))]))
    return "\n".join(lines)


def per_class(results: Results, subset: str) -> str:
    """IoU of every class, last checkpoint, headline predictor, mean over seeds."""
    methods = sorted({result["method"] for result in results})
    lines = [row(["class", *methods]), row(["---"] * (1 + len(methods)))]
    for name in results[0]["classes"]:
        cells: list[object] = [name]
        for method in methods:
            found = [r["last"][subset] for r in results if r["method"] == method]
            cells.append(mean(s[s["headline"]]["iou"][name] or 0.0 for s in found))
        lines.append(row(cells))
    return "\n".join(lines)


def main() -> None:
    results = [json.loads((Path(run) / "result.json").read_text()) for run in sys.argv[1:]]
    for subset in ("val", "test"):
        if subset in results[0]["last"]:
            print(f"\n{subset} mIoU, per cent\n\n{table(results, subset)}")
            print(f"\n{subset} IoU per class, last checkpoint, mean over seeds\n\n{per_class(results, subset)}")
    first = results[0]
    print(f"\n{first['date'][:10]}, commit {first['commit'][:12]}, {first['hardware']}, {first['versions']}")
    print("split: " + ", ".join(f"{k} {v['count']} {v['sha256'][:12]}" for k, v in first["split"].items()))


if __name__ == "__main__":
    main()
