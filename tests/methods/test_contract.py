"""What every method in METHODS promises, on a CNN of a few hundred parameters and on a small ViT."""

import copy
from dataclasses import replace

import pytest
import torch
from support.tiny import batches, clock, optimizer_of, train_step
from support.variants import ON_A_VIT, STEPS, VARIANTS, WARMUP, method_of

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.parts.augment import strong_view
from semiseg.parts.partners import WantsImages
from semiseg.training.optim import Optimizer

# name -> the method and its options; a name of METHODS alone has the defaults, but U2PL's queues and GCT's detector,
# which are large.
VARIANTS |= {name + ON_A_VIT: VARIANTS[name] for name in METHODS}


def train(method: Method, optimizer: Optimizer, first: int, last: int, seed: int = 0, **data) -> list[dict]:
    """Steps first..last - 1 on data that depend on the step alone; the losses of each."""
    found = []
    for step in range(first, last):
        result = train_step(method, optimizer, batches(seed=step, **data), clock(step, STEPS, seed))
        found.append({name: loss.detach() for name, loss in result.losses.items()})
    return found


def state_of(method: Method, optimizer: Optimizer) -> dict:
    return copy.deepcopy({"method": method.state_dict(), "optimizer": optimizer.state_dict()})


def tensors(state: dict) -> dict:
    """Of `state_of`, without the names of roles and kinds."""
    return {"method": state["method"], **{kind: part["state"] for kind, part in state["optimizer"].items()}}


every_method = pytest.mark.parametrize("name", METHODS)
every_variant = pytest.mark.parametrize("variant", VARIANTS)
# Where a variant takes seconds: methods with their own options at once, the others apart.
methods_first = pytest.mark.parametrize(
    "variant", [name if name in METHODS else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)


def test_methods_and_their_options_have_the_same_names():
    assert list(METHODS) == list(METHOD_OPTIONS)
    for name, method in METHODS.items():
        assert method.Options is METHOD_OPTIONS[name]


@every_variant
def test_losses_are_finite_scalars_and_the_loss_is_their_sum(variant):
    method = method_of(variant)
    optimizer = optimizer_of(method)
    for step in range(STEPS):
        if step == method.prepare_at:
            train(method, optimizer, step, step + 1)
            continue
        result = method(*batches(seed=step), clock(step, STEPS))
        for name, loss in result.losses.items():
            assert loss.shape == (), name
            assert loss.isfinite(), name
        assert all(value.shape == () and not value.requires_grad for value in result.stats.values())
        assert result.loss.item() == pytest.approx(sum(loss.item() for loss in result.losses.values()), rel=1e-5)
        assert result.loss.item() > 0


@methods_first
def test_every_step_is_taken_in_bf16_too(variant):
    """The precision of the published recipes: losses are finite and float32, and gradients reach the encoder."""
    method = method_of(variant)
    optimizer = optimizer_of(method)
    train(method, optimizer, 0, STEPS - 1)
    for step in (0, STEPS - 1):  # supervised, and with unlabelled images
        method.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            result = method(*batches(seed=step), clock(step, STEPS))
        assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in result.losses.values())
        result.loss.backward()
        gradients = [parameter.grad for parameter in method.student.encoder_parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    optimizer.step()
    method.after_step(clock(STEPS - 1, STEPS))
    assert all(tensor.isfinite().all() for tensor in method.state_dict().values())


@every_variant
def test_gradients_reach_what_learns_and_no_teacher(variant):
    method = method_of(variant)
    train(method, optimizer_of(method), 0, STEPS - 1)
    method(*batches(seed=STEPS), clock(STEPS - 1, STEPS)).loss.backward()
    linear_losses = variant != "prototype alone"
    for name, parameter in method.named_parameters():
        own_of_linear = "classifier" in name or "aux_head" in name
        assert parameter.requires_grad == ("teacher" not in name), name
        learns = parameter.requires_grad and (linear_losses or not own_of_linear)
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name
    assert all(buffer.grad is None for buffer in method.buffers())


@every_variant
def test_the_optimizer_gets_every_parameter_that_learns_once(variant):
    method = method_of(variant)
    groups = method.parameter_groups()
    assert {group["role"] for group in groups} == {"encoder", "head"}
    found = [parameter for group in groups for parameter in group["params"]]
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert sorted(map(id, found)) == sorted(map(id, learning))


@methods_first
@pytest.mark.parametrize(
    "interrupted", [pytest.param(1, marks=pytest.mark.slow), WARMUP, pytest.param(4, marks=pytest.mark.slow)]
)
def test_resuming_from_the_state_equals_not_stopping(variant, interrupted):
    method = method_of(variant)
    optimizer = optimizer_of(method)
    losses = train(method, optimizer, 0, interrupted)
    saved = state_of(method, optimizer)
    losses += train(method, optimizer, interrupted, STEPS)
    expected = state_of(method, optimizer)

    resumed = method_of(variant, seed=99)
    optimizer = optimizer_of(resumed)
    resumed.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    assert train(resumed, optimizer, interrupted, STEPS) == losses[interrupted:]
    torch.testing.assert_close(tensors(state_of(resumed, optimizer)), tensors(expected), rtol=0, atol=0)


@methods_first
def test_the_state_decides_what_is_evaluated(variant):
    method = method_of(variant)
    image = torch.randn(1, 3, 9, 11)
    for trained in (1, STEPS):
        train(method, optimizer_of(method), 0, trained)
        resumed = method_of(variant, seed=99)
        resumed.load_state_dict(method.state_dict())
        with torch.no_grad():
            found, expected = (made.predictor.eval()(image) for made in (resumed, method))
        assert list(found) == list(expected)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@methods_first
def test_the_clock_decides_all_randomness(variant):
    runs = []
    for seed in (0, 0, 1):
        method = method_of(variant)
        runs.append(train(method, optimizer_of(method), 0, STEPS, seed))
        torch.rand(7)  # whoever draws from torch's generator between two runs must not matter
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@every_method
def test_labelled_images_have_the_colours_of_strong_views_where_they_shall(name, monkeypatch):
    """In each step alike, and nothing is drawn where the share is 0."""
    method, seen = method_of(name), []
    for step in ("supervised_step", "consistency_step"):
        monkeypatch.setattr(method, step, lambda labeled, *_: seen.append(labeled.image))
    labeled, unlabeled = batches(size=(24, 26))
    context = method.context
    for number, share in ((0, 0.0), (0, 1.0), (STEPS - 1, 1.0)):
        method.context = replace(context, augment=replace(context.augment, labeled_colors=share))
        time = clock(number, STEPS)
        method(labeled, unlabeled, time)
        untouched = torch.equal(time.generator.get_state(), clock(number, STEPS).generator.get_state())
        assert untouched == (share == 0)
        generator = clock(number, STEPS).generator
        torch.rand(len(labeled.image), generator=generator)
        strong = strong_view(labeled.image, context.augment, generator)
        assert torch.equal(seen[-1], strong if share else labeled.image)


@methods_first
def test_predictors_answer_at_the_size_they_are_asked(variant):
    method = method_of(variant)
    for trained, size in ((0, (7, 13)), (STEPS, (7, 13)), (0, (33, 18)), (0, (5, 5))):
        train(method, optimizer_of(method), 0, trained)
        predictor = method.predictor.eval()
        with torch.no_grad():
            found = predictor(torch.randn(2, 3, *size))
        assert next(iter(found)) == predictor.headline
        for logits in found.values():
            assert logits.shape == (2, 3, *size)
            assert logits.isfinite().all()


@methods_first
def test_a_class_may_be_absent(variant):
    method = method_of(variant)
    # At a rate at which the ViT of large weights learns: at 0.05 it overflows by itself from some random starts.
    losses = train(method, optimizer_of(method, lr=0.005), 0, STEPS, classes=2)
    assert all(loss.isfinite() for step in losses for loss in step.values())
    assert all(tensor.isfinite().all() for tensor in method.state_dict().values() if tensor.is_floating_point())


@every_variant
def test_without_a_labelled_pixel_and_outside_the_image_nothing_is_nan(variant):
    method = method_of(variant)
    train(method, optimizer_of(method), 0, STEPS - 1)
    labeled, unlabeled = batches()
    empty = labeled._replace(label=torch.full_like(labeled.label, 255))
    outside = unlabeled.each(lambda maps: torch.zeros_like(maps) if maps.dtype == torch.bool else maps)
    result = method(empty, outside, clock(STEPS - 1, STEPS))
    assert result.loss == 0
    result.loss.backward()
    assert not any(p.grad.any() for p in method.parameters() if p.grad is not None)


@every_method
def test_a_method_says_whether_it_uses_unlabelled_images(name):
    method = method_of(name)
    train(method, optimizer_of(method), 0, STEPS - 1)
    assert method.uses_unlabeled == (name != "supervised")
    if method.uses_unlabeled:
        with pytest.raises(AssertionError, match="unlabelled"):
            method(batches()[0], None, clock(STEPS - 1, STEPS))
    else:
        assert method(batches()[0], None, clock(STEPS - 1, STEPS)).loss.isfinite()
    assert isinstance(method, WantsImages) == (name == "ael")


@pytest.mark.parametrize("name", [name for name in METHODS if issubclass(METHODS[name], WantsImages)])
def test_what_a_method_wants_is_there_to_be_had(name):
    method = method_of(name)
    train(method, optimizer_of(method), 0, STEPS - 1)
    assert [method.wanted(step) for step in range(WARMUP)] == [None] * WARMUP
    wish = method.wanted(STEPS)
    assert (wish.dtype, wish.shape) == (torch.int64, (method.context.batch_unlabeled,))
    assert 0 <= wish.min() <= wish.max() < method.context.num_unlabeled
    labeled, unlabeled = batches()
    with pytest.raises(AssertionError, match="wanted"):
        method(labeled, unlabeled._replace(partner=None), clock(STEPS - 1, STEPS))


@every_variant
def test_health_is_plain_and_has_no_warning_without_prototypes(variant):
    method = method_of(variant)
    train(method, optimizer_of(method), 0, STEPS)
    figures, warnings = method.health()
    assert bool(figures) == (getattr(method, "prototypes", None) is not None)
    assert all(isinstance(values, list) for values in figures.values())
    assert figures or not warnings


@pytest.mark.parametrize("variant", [*METHODS, "cps prototypes", "unimatch prototypes"])
def test_the_losses_on_unlabelled_images_are_told_by_their_names(variant):
    """Other unlabelled images change the losses that the method names so, and no other; in a warm-up there are none.

    In eval mode, for BatchNorm mixes all images. GCT's detector has no running statistics, so its loss may change.
    """
    method = method_of(variant)
    if not method.uses_unlabeled:
        return
    train(method, optimizer_of(method), 0, STEPS - 1)
    method.eval()
    labeled, unlabeled = batches(seed=STEPS)
    other = unlabeled._replace(image=unlabeled.image.flip(-1) * 0.3)
    first, second = (
        copy.deepcopy(method)(labeled, each, clock(STEPS - 1, STEPS)).losses for each in (unlabeled, other)
    )
    named = {name for name in first if name.startswith(method.unlabeled_losses)}
    assert named
    changed = {name for name in first if first[name].item() != second[name].item()}
    assert {name for name in changed if not name.startswith("detector")} <= named
    assert changed & named or not any(first[name].item() for name in named)  # 0 where no pixel is sure enough
    warm = method(labeled, unlabeled, clock(0, STEPS)).losses
    assert not any(name.startswith(method.unlabeled_losses) for name in warm)
