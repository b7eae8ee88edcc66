"""The end of a run: its last scores, the model for use, and result.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semiseg.evaluation.evaluator import Evaluation
from semiseg.evaluation.model import save_model
from semiseg.runtime.distributed import copy_from_first, rank
from semiseg.runtime.files import write_arrays, write_json
from semiseg.runtime.progress import Progress
from semiseg.runtime.provenance import provenance
from semiseg.runtime.timing import process_peak
from semiseg.training.checkpoint import BEST, load_into
from semiseg.training.compilation import uncompiled
from semiseg.training.keeping import State
from semiseg.training.record import CONFUSIONS, RESULT
from semiseg.training.resuming import load_best

if TYPE_CHECKING:
    from semiseg.training.experiment import Experiment


def finish(experiment: Experiment, state: State, bar: Progress, brief: bool = False) -> None:
    """Score the method as the last step left it, then the best checkpoint; save that for use, write result.json.

    With `brief` the scores are not printed.
    """
    config, dataset = experiment.config, experiment.dataset
    last = score_sets(experiment)
    scores = {"last": {"step": state.step, **_written(last)}}
    scores["best"] = scores["last"]
    best = experiment.checkpoints / BEST
    if state.best_step != state.step and not best.exists():
        bar.say(f"warning: {best} is not there: the weights of the last step stand for it")
    elif state.best_step != state.step:
        if rank() == 0:
            load_into(experiment.method, load_best(best, config, dataset, state.best_step), best)
        copy_from_first(experiment.method)
        scores["best"] = {"step": state.best_step, **_written(score_sets(experiment))}
    if rank() > 0:
        return
    save_model(experiment.folder / "model", experiment.method.predictor, config, dataset)
    write_arrays(experiment.folder / CONFUSIONS, {"names": list(dataset.val.names), **last["val"].by_image})
    write_json(
        experiment.folder / RESULT,
        {
            "method": config.method,
            "recipe": config.recipe,
            "seed": config.seed,
            "steps": config.train.steps,
            "devices": config.train.devices,
            "accumulate": state.accumulate or config.train.accumulate,
            **scores,
            "split": dataset.split,
            "classes": list(dataset.classes),
            "seconds": round(state.seconds, 1),
            **_costs(experiment, state),
            **provenance(experiment.device),
        },
    )
    for name in () if brief else ("best", "last"):
        checkpoint = f"{config.method} {name} checkpoint (step {scores[name]['step']})"
        for subset in ("val", "test"):
            found = scores[name].get(subset, {})
            by_predictor = {key: value for key, value in found.items() if isinstance(value, dict) and "miou" in value}
            if by_predictor:
                mious = ", ".join(f"{value['miou']:.2f} ({predictor})" for predictor, value in by_predictor.items())
                bar.say(f"{checkpoint}: {subset} mIoU {mious}")


def _costs(experiment: Experiment, state: State) -> dict[str, Any]:
    """Costs of the run beside its seconds; images are counted in batches, labelled and unlabelled."""
    method, train = experiment.method, experiment.config.train
    images = train.batch_labeled + (train.batch_unlabeled if method.uses_unlabeled else 0)
    trained = sum(each.numel() for group in method.parameter_groups() for each in group["params"])
    used = sum(each.numel() for each in method.predictor.parameters())
    return {
        "images_per_second": state.step * images / max(state.seconds - state.evaluating, 1e-9),
        "peak_bytes": process_peak(experiment.device),
        "parameters": {"trained": trained, "used": used},
    }


def _written(scores: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {subset: found.to_dict() for subset, found in scores.items()}


def score_sets(experiment: Experiment) -> dict[str, Evaluation]:
    """Scores of the method as it stands on val, image by image too, and on test where there is one."""
    method = experiment.method
    with uncompiled():
        return {
            name: experiment.evaluator(images)(method.predictor, method.threshold, per_image=name == "val")
            for name, images in experiment.dataset.image_sets.items()
            if name in ("val", "test")
        }
