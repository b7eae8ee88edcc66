"""Every method on every set of labels with every seed: a table whose rows are methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from semiseg.config.recipe import flatten, load_config
from semiseg.studies.asked import check_options, for_method, labeled_sets, read_methods, read_seeds, words_of
from semiseg.studies.study import Cell, Row, Study, Table, command_line, run_folder

REFERENCE = "supervised"
"""What every method is held against."""

_SAME = "Every method had the same network, schedule, steps and evaluation and, for a seed, the same labelled batches."


def make_comparison(
    recipe: str | Path,
    methods: str | Iterable[str] = "all",
    labeled: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] = "0",
    out: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Study:
    """The runs that the words of a command line, or lists of them, describe. Raises ConfigError for what is wrong."""
    flat = flatten(overrides or {})
    asked = read_methods(methods)
    names = list(dict.fromkeys([REFERENCE, *asked]))
    check_options(flat, names)
    base = load_config(recipe, for_method(flat, REFERENCE))
    sets, numbers = labeled_sets(labeled, base), read_seeds(seeds)
    folder = out or Path("runs") / f"compare-{base.recipe}"
    runs = {}
    for seed in numbers:
        for chosen in sets:
            for method in names:
                own = {"method": method, "seed": seed, "run": run_folder(folder, chosen.name, method, seed)}
                config = load_config(recipe, {**for_method(flat, method), **chosen.overrides, **own})
                runs[method, chosen.name, seed] = Cell(method, chosen.name, seed, config)
    typed = {
        "methods": ",".join(words_of(methods)),
        "labeled": None if labeled is None else ",".join(words_of(labeled)),
        "seeds": ",".join(map(str, numbers)),
        "out": out,
    }
    rows = tuple(Row(method, method, method) for method in names)
    preset = f" ({base.preset})" if base.preset else ""
    words = f"{'seeds' if len(numbers) > 1 else 'seed'} {', '.join(map(str, numbers))}"
    title = f"Comparison: {base.recipe}{preset}, {base.train.steps:,} steps, {words}"
    return Study(
        table=Table(
            name="compare",
            title=title,
            rows=rows,
            reference=REFERENCE,
            verdicts=("helped", "hurt"),
            columns=("method", "costs"),
            reports=True,
            notes=(_SAME,),
        ),
        rows=rows,
        labels=tuple(chosen.name for chosen in sets),
        seeds=numbers,
        runs=runs,
        out=folder,
        command=command_line("compare", str(recipe), typed, flat),
        reference_added=REFERENCE not in asked,
        published_splits={cell.labels: cell.config.data.split for cell in runs.values()},
    )
