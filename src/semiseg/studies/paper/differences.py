"""How the runs of a reproduction differ from the paper's: read from both configs, never from memory."""

from __future__ import annotations

from collections.abc import Iterable

from semiseg.config.recipe import Config, load_config, option_values
from semiseg.data.splits import PUBLISHED
from semiseg.studies.paper.settings import schedule_overrides
from semiseg.studies.study import Departure, Study, Table

DECISIVE = ("data", "labels", "network", "image size", "crop", "steps", "batch")
"""Where one of these differs, figures are no reproduction of the paper's."""

_NAMES = {"voc": "PASCAL VOC 2012", "cityscapes": "Cityscapes"}
_WORDS = {
    "network": "{0.network.name} on {0.network.encoder}, output stride {0.network.output_stride}, "
    "{0.network.channels} channels, first weights {0.network.weights}",
    "image size": "{0.data.scale:g} of their size",
    "crop": "{0.augment.crop_height} x {0.augment.crop_width}",
    "batch": "{0.train.batch_labeled} + {0.train.batch_unlabeled}",
    "preset": "{0.preset}, {0.recipe}",
    "auxiliary head": "{0.network.aux}",
    "supervised loss": "{0.loss.kind}",
    "optimizer": "{0.optim.kind}, rate {0.optim.lr:g}, heads x {0.optim.head_lr_factor:g}, "
    "decay {0.optim.weight_decay:g}, power {0.optim.power:g}",
    "evaluation": "{0.evaluation.label}",
}


def departures(made: Study) -> tuple[Departure, ...]:
    """The differences from the text of the paper, the decisive first. Its network has ResNet-101 in all tables."""
    paper_splits = {labels: paper_split(made.table, made.split(labels)) for labels in made.labels}
    theirs = paper_config(made.table, paper_splits[made.labels[0]])
    ours = next((cell.config for cell in made.cells if cell.config.method == "prototype"), made.config)
    their_steps = [paper_config(made.table, split).train.steps for split in paper_splits.values()]
    row = next((row for row in made.rows if not row.short), made.rows[0])
    our_steps = [made.runs[row.key, labels, made.seeds[0]].config.train.steps for labels in made.labels]
    found = [
        Departure("data", _data(theirs), _data(ours)),
        Departure("labels", _listed(paper_splits.values()), _listed(made.labels)),
        Departure("steps", _listed(f"{each:,}" for each in their_steps), _listed(f"{each:,}" for each in our_steps)),
        *(Departure(what, words.format(theirs), words.format(ours)) for what, words in _WORDS.items()),
        _of_method(theirs, ours, made),
    ]
    differing = [each for each in found if each.paper != each.here]
    return tuple(sorted(differing, key=lambda each: each.what not in DECISIVE))


def warning(found: Iterable[Departure]) -> str | None:
    """The decisive differences, to stand over every table; None without any."""
    decisive = [f"{each.what}: {each.here}" for each in found if each.what in DECISIVE]
    return f"NOT the paper's setting: {'; '.join(decisive)}" if decisive else None


def paper_split(table: Table, split: str | None) -> str:
    """The paper's set of labels that `split` is or, of other data, is held beside: the first of the table."""
    columns = next(iter(table.data.values()))
    return split if split in columns.splits else columns.splits[0]


def paper_config(table: Table, split: str) -> Config:
    """The text's own setting of the paper's method for one of the paper's sets of labels."""
    dataset, columns = next(iter(table.data.items()))
    steps = schedule_overrides(dataset, "full", PUBLISHED[split].labeled.count, short=False)
    return load_config(columns.recipe, {"preset": "paper", "data.split": split, **steps})


def _data(config: Config) -> str:
    return _NAMES.get(config.data.dataset) or f"the folder {config.data.root.resolve().name}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _of_method(theirs: Config, ours: Config, made: Study) -> Departure:
    """Options of the paper's method, without the options that rows set."""
    if ours.method != theirs.method:
        return Departure("method", "", "")
    free = {key for row in made.rows for key in row.options}
    paper, here = (option_values(config) for config in (theirs, ours))
    own = [key for key in paper if key.startswith(("method.", "prototypes."))]
    names = [key for key in own if paper[key] != here[key] and key not in free]
    both = (_listed(f"{key.removeprefix('method.')} {flat[key]}" for key in names) for flat in (paper, here))
    return Departure("options of the method", *both)
