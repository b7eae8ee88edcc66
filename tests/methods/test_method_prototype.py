"""Algorithms 1 and 2 against a slow twin that goes pixel by pixel, for every switch."""

import copy

import numpy as np
import pytest
import torch
from support.slow_prototype import PLAIN, Assigned, SlowStep, feature_at, method_of, options_of, prototype_logits
from support.tiny import batches, clock, optimizer_of, segmentor, setting, train_step
from torch import Tensor

import semiseg.parts.prototypes as module
from semiseg.methods.prototype import Prototype
from semiseg.parts.augment import strong_view
from semiseg.parts.sampling import all_points, grid_points


def spied(method: Prototype) -> list:
    """A list that gets (image, output) of the student's every call."""
    seen: list = []
    method.student.register_forward_hook(lambda _, arguments, output: seen.append((arguments[0], output)))
    return seen


def one_step(method: Prototype, points: Tensor | None = None, seed: int = 0) -> tuple[dict[str, Tensor], SlowStep]:
    """The losses of a step, and the twin that knows the weights from before; `points` of a dense step by default."""
    before, seen = copy.deepcopy(method), spied(method)
    labeled, unlabeled = batches(seed=seed)
    losses = dict(method(labeled, unlabeled, clock()).losses)
    ((image, output),) = seen
    logits, features = (tensor.detach().double().numpy() for tensor in (output.logits, output.features))
    points = all_points(9, 11) if points is None else points
    return losses, SlowStep(before, labeled, unlabeled, image, logits, features, points.tolist())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mix": "cutout"},
        {"mix": "classmix"},
        {"mix": "none"},
        {"linear": False, "threshold": 0.38},
        {"linear": False, "mix": "classmix", "temperature": 0.05, "threshold": 0.4},
        {"prototypes": False},
        {"update": "none"},
        {"update": "per_pixel", "momentum": 0.9},
        {"momentum": 0.5},
        {"per_class": 1},
        {"per_class": 3, "temperature": 0.3},
        {"threshold": 0.0},
        {"threshold": 0.7},
        {"denominator": "kept"},
        {"denominator": "u2pl", "mix": "cutout"},
        {"unlabeled_weight": 0.3, "weight": 2.5},
        {"grid": 4},
        {"grid": 3, "denominator": "u2pl", "update": "per_pixel"},
        {"grid": 100},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()) or "plain",
)
def test_a_step_equals_its_slow_twin(changes, monkeypatch):
    points = grid_points(9, 11, changes.get("grid", 1), clock().generator)
    monkeypatch.setattr(module, "grid_points", lambda height, width, grid, generator: points)
    method = method_of(**changes)
    losses, twin = one_step(method, points if "grid" in changes else None)
    expected, prototypes = twin.run()
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    assert 0.05 < sum(map(twin.teaches, twin.mixed)) / len(twin.mixed) < 0.98
    method.after_step(clock())
    if method.prototypes is None:
        assert changes == {"prototypes": False}
        return
    np.testing.assert_allclose(method.prototypes.predictor.prototypes.numpy(), prototypes, atol=1e-5)
    moved = np.abs(prototypes - twin.method.prototypes.predictor.prototypes.numpy()).max() > 1e-4
    assert moved == (method.options.prototypes.update != "none")


def test_the_record_has_the_share_of_valid_pixels_that_teach():
    method = method_of(mix="cutout")
    labeled, unlabeled = batches()
    _, twin = one_step(copy.deepcopy(method))
    twin.mix()
    result = method(labeled, unlabeled, clock())
    valid = sum(is_valid for _, _, is_valid in twin.mixed.values())
    assert result.stats["kept"].item() == pytest.approx(sum(map(twin.teaches, twin.mixed)) / valid)
    assert not result.stats["kept"].requires_grad


def test_the_auxiliary_head_learns_from_labels_only():
    method = method_of(aux=True)
    losses, _ = one_step(method)
    assert set(losses) == {"supervised", "aux", "unlabeled", "prototype", "prototype_unlabeled"}
    assert "aux" not in one_step(method_of(aux=True, linear=False))[0]


def test_the_strong_view_is_the_students_alone():
    method = method_of(strong=True, mix="none")
    labeled, unlabeled = batches()
    seen, taught = spied(method), []
    method.teacher.segmentor.register_forward_hook(lambda _, arguments, output: taught.append(arguments[0]))
    method(labeled, unlabeled, clock())
    expected = strong_view(unlabeled.image, method.context.augment, clock().generator)
    assert not expected.equal(unlabeled.image)
    assert seen[0][0].equal(torch.cat([labeled.image, expected]))
    assert len(taught) == 1
    assert taught[0].equal(unlabeled.image)


# ---- every pixel, in parts ----


def test_parts_of_a_dense_step_give_the_same_losses_gradients_and_prototypes(monkeypatch):
    found, calls = [], []
    real = module.checkpoint
    monkeypatch.setattr(module, "checkpoint", lambda *a, **k: calls.append(a) or real(*a, **k))
    for at_once in (10**6, 10):
        monkeypatch.setattr(module, "POINTS_AT_ONCE", at_once)
        method = method_of()
        result = method(*batches(), clock())
        result.loss.backward()
        assert len(calls) == (10 if at_once == 10 else 0)  # 99 pixels
        method.after_step(clock())
        gradients = {name: p.grad for name, p in method.student.named_parameters()}
        found.append((dict(result.losses), gradients, method.state_dict()))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_micro_batches_move_the_prototypes_once_and_together():
    method = method_of(momentum=0.9)
    twins = [one_step(method, seed=seed)[1] for seed in (0, 1)]
    pooled: Assigned = {}
    for twin in twins:
        twin.mix()
        for place, features in twin.prototype_losses()[1].items():
            pooled.setdefault(place, []).extend(features)
    assert method.prototypes.predictor.prototypes.equal(twins[0].method.prototypes.predictor.prototypes)
    method.after_step(clock())
    np.testing.assert_allclose(method.prototypes.predictor.prototypes.numpy(), twins[0].updated(pooled), atol=1e-5)


def test_a_step_forgets_what_it_assigned():
    method = method_of(momentum=0.9)
    method(*batches(), clock())
    method.after_step(clock())
    after = method.prototypes.predictor.prototypes.clone()
    method.after_step(clock(1))
    assert method.prototypes.predictor.prototypes.equal(after)


# ---- who learns ----


@pytest.mark.parametrize("linear", [True, False])
def test_gradients_reach_the_student_and_nothing_else(linear):
    method = method_of(linear=linear)
    method(*batches(), clock()).loss.backward()
    for name, parameter in method.student.named_parameters():
        learns = linear or "classifier" not in name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert not method.prototypes.predictor.prototypes.requires_grad
    assert {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad} == {"student"}


def test_prototypes_stay_in_float32_under_autocast():
    method = method_of()
    with torch.autocast("cpu", torch.bfloat16):
        losses, twin = one_step(method)
        expected, prototypes = twin.run()  # in float64, on the features and labels that autocast gave
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    method.after_step(clock())
    assert method.prototypes.predictor.prototypes.dtype == torch.float32
    np.testing.assert_allclose(method.prototypes.predictor.prototypes.numpy(), prototypes, atol=1e-5)


# ---- what is used, and what is said of it ----


@pytest.mark.parametrize(("linear", "names"), [(True, ["linear", "prototype"]), (False, ["prototype", "linear"])])
def test_both_predictors_of_the_teacher_speak_and_the_headline_first(linear, names):
    method = method_of(linear=linear)
    image = torch.randn(2, 3, 9, 11)
    found = method.predictor(image)
    assert list(found) == names
    output = method.teacher(image)
    assert found["linear"].equal(output.logits)
    features = output.features.double().numpy()
    for b, y, x in np.ndindex(2, 9, 11):
        expected = prototype_logits(
            method.prototypes.predictor, feature_at(features[b], y, x, (9, 11)), temperature=0.1
        )
        np.testing.assert_allclose(found["prototype"][b, :, y, x].numpy(), expected, atol=1e-4)


def test_a_collapse_is_reported_by_class_name():
    method = method_of()
    method(*batches(), clock())
    method.after_step(clock())
    figures, warnings = method.health()
    assert warnings == []
    assert set(figures) == {"prototype_usage", "prototype_distance", "prototype_closest", "prototype_drift"}
    assert np.sum(figures["prototype_usage"], axis=1) == pytest.approx(1, abs=1e-3)
    method.prototypes.predictor.prototypes[2] = method.prototypes.predictor.prototypes[2, :1]
    (warning,) = method.health()[1]
    assert "bird" in warning


def test_a_state_dict_carries_teacher_and_prototypes():
    method = method_of()
    optimizer = optimizer_of(method)
    for step in range(2):
        train_step(method, optimizer, batches(seed=step), clock(step + 1))
    other = Prototype(segmentor(seed=9), options_of(**PLAIN), setting()).train()
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(other.state_dict(), method.state_dict(), rtol=0, atol=0)
    first, second = (made(*batches(seed=3), clock(3)).losses for made in (method, other))
    assert {name: loss.item() for name, loss in first.items()} == {name: loss.item() for name, loss in second.items()}
