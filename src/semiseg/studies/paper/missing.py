"""Which data, lists and weights a reproduction lacks on this machine, and where they are to be had."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from semiseg.config.recipe import Config
from semiseg.data.splits import PUBLISHED, PublishedList, cached_list
from semiseg.studies.study import Study

_PLACES = {
    "voc": {
        "JPEGImages": "VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012",
        "SegmentationClassAug": "the masks of VOC and SBD together as PNG, SegmentationClassAug, to which the readme "
        "of github.com/Haochen-Wang409/U2PL links",
    },
    "cityscapes": {
        "leftImg8bit": "leftImg8bit_trainvaltest.zip from www.cityscapes-dataset.com/downloads (after registration)",
        "gtFine": "gtFine_trainvaltest.zip from www.cityscapes-dataset.com/downloads (after registration)",
    },
    "folder": {"images": "your own", "masks": "your own"},
}
"""Folders below data.root by dataset, and what they are filled from."""

HUB = {"resnet101s": "timm/resnet101s.gluon_in1k", "resnet50s": "timm/resnet50s.gluon_in1k"}
"""Repositories of the hub that hold the first weights of an encoder."""

_FILE = "model.safetensors"


def missing(made: Study) -> list[str]:
    """One line for each thing; nothing is fetched."""
    config = made.config
    splits = [split for split in map(made.split, made.labels) if split is not None]
    places = {config.data.root / folder: source for folder, source in _PLACES[config.data.dataset].items()}
    data = [f"data: no folder {path} (--data.root); {source}" for path, source in places.items() if not path.is_dir()]
    return [*data, *_lists(splits, config.data.split_folder), *_weights(config)]


def _lists(splits: Iterable[str], folder: Path | None) -> Iterable[str]:
    """A line for each repository that lists come from."""
    published = [PUBLISHED[name] for name in splits]
    parts = [part for each in published for part in (each.labeled, each.unlabeled, each.val, *each.universe) if part]
    lacking = [part for part in dict.fromkeys(parts) if not cached_list(part, folder).is_file()]
    for source in dict.fromkeys(_repository(part) for part in lacking):
        files = [part.file for part in lacking if _repository(part) == source]
        where = cached_list(lacking[0], folder).parents[lacking[0].file.count("/")]
        how = "fetched at the first run, or --data.split_folder COPIES" if folder is None else "put copies there"
        yield f"lists: not in {where}: {', '.join(files)}; from {source} ({how})"


def _repository(part: PublishedList) -> str:
    """`github.com/OWNER/NAME` of a file's raw address."""
    return "github.com/" + "/".join(part.url.split("/")[3:5])


def _weights(config: Config) -> Iterable[str]:
    encoder, weights = config.network.encoder, config.network.weights
    if weights not in ("none", "package", "hub") and not Path(weights).expanduser().is_file():
        yield f"weights: no file {weights} (--network.weights)"
    if weights != "hub":
        return
    from huggingface_hub import try_to_load_from_cache

    repo = HUB.get(encoder)
    if repo is None:
        yield f"weights of {encoder}: from the hub at the first run, if they are not in its cache"
    elif not isinstance(try_to_load_from_cache(repo, _FILE), str):
        yield (
            f"weights: {encoder} on ImageNet, fetched at the first run from huggingface.co/{repo} ({_FILE}); or "
            "--network.weights FILE"
        )
