"""Why a method helps or hurts: the pull of each loss, and the same labelled images seen by student and teacher.

Measured at evaluations, in the step before them. Nothing learns from it, and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from semiseg.evaluation.evaluator import eval_mode
from semiseg.methods.method import Method
from semiseg.parts.losses import supervised_loss
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import gathered, mean_over_ranks
from semiseg.types import IGNORE, LabeledBatch


def gradient_norms(losses: Mapping[str, Tensor], method: Method) -> dict[str, dict[str, float]]:
    """Euclidean norm of each weighted loss's gradient, by role: at the `encoder` and at the `head`.

    The gradient is the mean over ranks; of a step in several parts, the first part's. The graph stays, and no `.grad`
    is touched. Parameters with an optimizer of their own are left out, and so is a loss that has no gradient on some
    rank.
    """
    roles: dict[str, list[Tensor]] = {}
    for group in method.parameter_groups():
        learning = [each for each in group["params"] if each.requires_grad]
        if "role" in group and learning:
            roles.setdefault(group["role"], []).extend(learning)
    parameters = [each for several in roles.values() for each in several]
    everywhere = gathered([name for name, loss in losses.items() if loss.requires_grad])
    norms: dict[str, dict[str, float]] = {}
    for name in (name for name in losses if all(name in pulling for pulling in everywhere)):
        pulls = iter(
            torch.autograd.grad(losses[name], parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        )
        norms[name] = {}
        for role, several in roles.items():
            flat = torch.cat([next(pulls).detach().float().flatten() for _ in several])
            norms[name][role] = float(mean_over_ranks(flat).norm())
    return norms


@torch.no_grad()
def views_of_labels(method: Method, labeled: LabeledBatch) -> dict[str, dict[str, float]]:
    """How the student, and its teacher where it has one, see a labelled batch, in eval mode.

    `loss` is Eq. 5 as the section `loss` has it, `feature_norm` the mean length of the features, over pixels. One
    rank's own.
    """
    networks: dict[str, Segmentor] = {"student": method.student}
    if method.labeler is not method.student:
        networks["teacher"] = method.labeler
    return {name: _view(network, method, labeled) for name, network in networks.items()}


def _view(network: Segmentor, method: Method, labeled: LabeledBatch) -> dict[str, float]:
    with eval_mode(network):
        output = network(labeled.image)
    count = (labeled.label != IGNORE).sum().clamp_min(1)
    loss = supervised_loss(output.logits, labeled.label, method.context.loss, count, method.class_pixels)
    return {"loss": float(loss), "feature_norm": float(output.features.float().norm(dim=1).mean())}
