"""Every method where there is hardly anything to learn from, or nothing: all stays finite, and what it had stays."""

from dataclasses import replace

import pytest
import torch
from support.tiny import batches, clock, optimizer_of, train_step
from support.variants import STEPS, WARMUP, method_of
from torch import Tensor, nn

from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.types import IGNORE, LabeledBatch, StepResult, UnlabeledBatch

Batch = tuple[LabeledBatch, UnlabeledBatch]

MORE = (
    *("cutmix pixel", "fixmatch prototypes", "u2pl classmix", "cps plain prototypes", "prototype classmix", "gct mean"),
    *("prototype alone", "linear alone", "ael strong", "cct background", "pseudoseg background"),
)
every_variant = pytest.mark.parametrize("variant", [*METHODS, *MORE])


# What a run may meet --------------------------------------------------------------------------------------------------


def no_label(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """Every pixel of every crop is ignored."""
    return labeled._replace(label=torch.full_like(labeled.label, IGNORE)), unlabeled


def outside(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """No unlabelled crop shows its image."""
    return labeled, unlabeled.each(lambda maps: torch.zeros_like(maps) if maps.dtype == torch.bool else maps)


def neither(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """Both."""
    return outside(*no_label(labeled, unlabeled))


def one_pixel(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """One pixel has a label, and one pixel is inside an unlabelled image."""
    (labeled, unlabeled), place = neither(labeled, unlabeled), (-1, 4, 5)
    labeled.label[place] = 1
    unlabeled.valid[place] = True
    return labeled, unlabeled


def one_class(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """All that is labelled is of one class; of the others none was there when prototypes started."""
    return labeled._replace(label=labeled.label.masked_fill(labeled.label != IGNORE, 1)), unlabeled


def one_image(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> Batch:
    """The data set has one labelled image and one unlabelled one, so that all views of a batch are of it."""
    first = labeled._replace(image=labeled.image[:1].expand_as(labeled.image), label=labeled.label[:1].repeat(2, 1, 1))
    return first, unlabeled.each(lambda maps: torch.zeros_like(maps) if maps.dtype == torch.int64 else maps)


SITUATIONS = {each.__name__: each for each in (no_label, outside, neither, one_pixel, one_class, one_image)}
WITHOUT_LABELS, WITHOUT_IMAGES = ("no_label", "neither"), ("outside", "neither")
OF_LABELS = ("supervised", "aux", "attention", "presence", "detector", "consistency_labeled")
"""Beginnings of the names of losses that labels alone decide."""
OF_LABELS_EXACTLY = ("prototype", "prototype_left", "prototype_right", "correlation")
OF_BOTH = ("contrastive", "consistency_left", "consistency_right", "correction")
"""Of losses that labelled and unlabelled images decide together."""


def checked_step(method: Method, optimizer, batch: Batch, step: int) -> StepResult:
    """A step that leaves everything finite; every loss has a graph, so that no rank waits for another's gradient."""
    result = train_step(method, optimizer, batch, clock(step, STEPS))
    for name, value in {**result.losses, **result.stats}.items():
        assert value.isfinite(), name
    assert all(loss.requires_grad for loss in result.losses.values())
    assert all(0 <= result.stats[name] <= 1 for name in result.stats)
    for name, tensor in [*method.named_parameters(), *method.named_buffers()]:
        assert tensor.isfinite().all(), name
    return result


def remembered(method: Method) -> dict[str, Tensor]:
    """Buffers that move with what is assigned to them. BatchNorm's, and the teacher's, move with every image."""
    other = ("running_mean", "running_var", "num_batches_tracked")
    state = {name: buffer.clone() for name, buffer in method.named_buffers() if not name.endswith(other)}
    return {name: each for name, each in state.items() if not name.startswith(("bank.wishes", "bank.shows"))}


@every_variant
@pytest.mark.parametrize("situation", SITUATIONS)
def test_hardly_anything_to_learn_from(variant, situation):
    method = method_of(variant)
    optimizer = optimizer_of(method)
    for step in (0, WARMUP, WARMUP + 1)[: 3 if situation == "neither" else 2]:
        before = remembered(method)
        result = checked_step(method, optimizer, SITUATIONS[situation](*batches(seed=step)), step)
        for name, loss in result.losses.items():
            empty = (situation in WITHOUT_LABELS, situation in WITHOUT_IMAGES)
            by_labels = name.startswith(OF_LABELS) or name in OF_LABELS_EXACTLY
            by_both = name.startswith(OF_BOTH) or variant.startswith("cps plain")
            assert loss == 0 or not (all(empty) if by_both else empty[not by_labels]), name
        if situation in WITHOUT_IMAGES and "kept" in result.stats:
            assert result.stats["kept"] == 0  # a share of nothing
    if situation == "neither":
        torch.testing.assert_close(remembered(method), before, rtol=0, atol=0)
    with torch.no_grad():
        for logits in method.predictor.eval()(torch.randn(1, 3, 9, 11)).values():
            assert logits.isfinite().all()
    figures, _ = method.health()
    assert isinstance(figures, dict)


@every_variant
def test_batches_of_one_image(variant):
    """Pixels enough for BatchNorm; `training.single` looks at the others before a run's first step."""
    method = method_of(variant)
    optimizer = optimizer_of(method)
    for step in (0, WARMUP, WARMUP + 1):
        batch = batches(1, 1, size=(33, 35), seed=step)
        checked_step(method, optimizer, neither(*batch) if step > WARMUP else batch, step)


# The threshold --------------------------------------------------------------------------------------------------------


def undecided(variant: str, threshold: float) -> Method:
    """A method whose networks give every class the same probability, a third, whatever the image."""
    method = method_of(variant)
    assert hasattr(method.options, "threshold")
    method.options = replace(method.options, threshold=threshold)
    if hasattr(method, "adaptation"):
        method.adaptation.threshold = threshold
    if "tau" in dict(method.named_buffers()):
        method.tau.fill_(threshold)  # pyright: ignore[reportCallIssue]
    for name, weight in method.named_parameters():
        if "classifier.1" in name:
            nn.init.zeros_(weight)
    return method


THRESHOLDED = ("cutmix", "cutmix pixel", "fixmatch prototypes", "unimatch", "unimatch_v2", "corrmatch", "prototype")


@pytest.mark.parametrize("variant", [*THRESHOLDED, "prototype classmix", "linear alone"])
@pytest.mark.parametrize(("threshold", "kept"), [(1 / 3, 1), (0.34, 0), (1.0, 0), (0.0, 1)])
def test_a_confidence_of_exactly_the_threshold_teaches(variant, threshold, kept):
    method = undecided(variant, threshold)
    method.started.fill_(True)
    result = method(*batches(seed=WARMUP), clock(WARMUP, STEPS))
    assert result.stats["kept"] == kept
    result.loss.backward()
    for name, loss in result.losses.items():
        if name.startswith(("unlabeled", "consistency", "perturbed", "correlation_")) and not kept:
            assert loss == 0, name


@pytest.mark.parametrize("variant", [*THRESHOLDED, "fixmatch", "ael", "ael strong", "prototype alone", "linear alone"])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_run_in_which_every_pixel_teaches_and_one_in_which_none_does(variant, threshold):
    method = method_of(variant)
    method.options = replace(method.options, threshold=threshold)
    optimizer = optimizer_of(method)
    for step in (0, WARMUP, WARMUP + 1):
        checked_step(method, optimizer, batches(seed=step), step)


# Extreme predictions --------------------------------------------------------------------------------------------------


def huge(method: Method) -> None:
    """Logits of some ten thousands."""
    for name, weight in method.named_parameters():
        if "classifier.1" in name:
            weight.data *= 1e4


def equal(method: Method) -> None:
    """The same logit for every class."""
    for name, weight in method.named_parameters():
        if "classifier.1" in name:
            nn.init.zeros_(weight)


def featureless(method: Method) -> None:
    """From now on what learns has features of length 0, which have no direction."""

    def hook(module: nn.Module, given: object, made: Tensor | tuple[Tensor, Tensor]) -> object:
        if not torch.is_grad_enabled():
            return made
        logits, features = made if isinstance(made, tuple) else (None, made)
        nothing = features - features.detach()  # with the gradient that features have
        return nothing if logits is None else (logits, nothing)

    for name, module in method.named_modules():
        if name in ("student.decoder", "right.decoder", "projection", "projector"):
            module.register_forward_hook(hook)


@every_variant
@pytest.mark.parametrize(
    ("extreme", "precision"),
    [(huge, torch.bfloat16), (equal, torch.bfloat16), (featureless, torch.float32)],
)
def test_extreme_predictions_have_finite_gradients_of_a_usual_size(variant, extreme, precision):
    method = method_of(variant)
    method.prepare([LabeledBatch(*(each[:1] for each in batches()[0][:3]))], clock(WARMUP, STEPS))
    extreme(method)
    for step in (0, WARMUP):
        method.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            result = method(*batches(seed=step), clock(step, STEPS))
        for name, loss in result.losses.items():
            assert loss.isfinite(), name
            assert loss.dtype == torch.float32, name
        result.loss.backward()
        for name, weight in method.named_parameters():
            if weight.grad is not None:
                assert weight.grad.abs().amax() < (1e6 if extreme is huge else 1e3), (
                    name
                )  # NaN is no less than anything
        method.after_step(clock(step, STEPS))
        assert all(tensor.isfinite().all() for tensor in method.state_dict().values())
