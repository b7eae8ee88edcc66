"""Slow twins and observations that the tests of several methods share."""

import math

import numpy as np
from support.tiny import batches, clock, segmentor

from semiseg.methods.method import Method
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.types import IGNORE


def probabilities(logits: np.ndarray) -> np.ndarray:
    """(C,) logits -> (C,)."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def mean_cross_entropy(logits: np.ndarray, label: np.ndarray) -> float:
    """logits (B, C, H, W), label (B, H, W)."""
    places = [place for place in np.ndindex(*label.shape) if label[place] != IGNORE]
    losses = [-math.log(probabilities(logits[b, :, y, x])[label[b, y, x]]) for b, y, x in places]
    return sum(losses) / len(losses)


def observed(method: Method, seed: int = 0) -> dict:
    """A step's losses and statistics, and what the student and the teacher were shown and answered."""
    found: dict = {"student": [], "teacher": []}
    for name in found:
        network = (
            method.student
            if name == "student"
            else getattr(method, "teacher", method).get_submodule(
                "segmentor" if hasattr(method, "teacher") else "student"
            )
        )
        network.register_forward_hook(
            lambda _, arguments, output, name=name: found[name].append(
                (arguments[0], output.logits.detach().double().numpy())
            )
        )
    result = method(*batches(), clock(5, seed=seed))
    return found | {"losses": {name: loss.item() for name, loss in result.losses.items()}, "stats": result.stats}


def started(method: TeacherMethod) -> TeacherMethod:
    """Past warm-up, with a teacher unlike the student."""
    method.started.fill_(True)
    method.teacher.copy_from(segmentor(seed=1))
    return method.train()
