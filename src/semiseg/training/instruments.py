"""Why a method helps or hurts: what each loss pulls at, and how student and teacher see the same labelled images.

Measured at evaluations, in the step before them. Nothing learns from it, and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from semiseg.evaluation.evaluator import eval_mode
from semiseg.methods.method import Method
from semiseg.parts.losses import supervised_loss
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import mean_over_ranks
from semiseg.types import IGNORE, LabeledBatch


def gradient_norms(losses: Mapping[str, Tensor], method: Method) -> dict[str, dict[str, float]]:
    """Euclidean norm of each weighted loss's gradient, by role: at the `encoder` and at the `head`.

    Over all ranks; of a step in several parts, the first part's. The graph stays, and no `.grad` is touched. Only
    parameters of the roles count: a part with an optimizer of its own has none.
    """
    roles: dict[str, list[Tensor]] = {}
    for group in method.parameter_groups():
        if "role" in group:
            roles.setdefault(group["role"], []).extend(each for each in group["params"] if each.requires_grad)
    parameters = [each for several in roles.values() for each in several]
    norms: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        if not loss.requires_grad:
            continue
        pulls = iter(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
        norms[name] = {role: _norm([next(pulls) for _ in several]) for role, several in roles.items()}
    return norms


def _norm(gradients: list[Tensor | None]) -> float:
    flat = [torch.zeros(1), *(each.float().flatten() for each in gradients if each is not None)]
    return float(mean_over_ranks(torch.cat([each.to(flat[-1].device) for each in flat])).norm())


@torch.no_grad()
def views_of_labels(method: Method, labeled: LabeledBatch) -> dict[str, dict[str, float]]:
    """How the student, and its teacher where it has one, see a labelled batch, in eval mode.

    `loss` is Eq. 5 as `loss.kind` says, `feature_norm` the mean length of the features, over pixels. One rank's own.
    """
    networks: dict[str, Segmentor] = {"student": method.student}
    if method.labeler is not method.student:
        networks["teacher"] = method.labeler
    return {name: _view(network, method, labeled) for name, network in networks.items()}


def _view(network: Segmentor, method: Method, labeled: LabeledBatch) -> dict[str, float]:
    with eval_mode(network):
        output: Any = network(labeled.image)
    valid = (labeled.label != IGNORE).sum()
    loss = supervised_loss(output.logits, labeled.label, options=method.context.loss, count=valid.clamp_min(1))
    return {"loss": float(loss), "feature_norm": float(output.features.float().norm(dim=1).mean())}
