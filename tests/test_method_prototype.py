"""Algorithms 1 and 2 against a slow twin that goes pixel by pixel, for every switch."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from tiny import CLASSES, batches, clock, one_by_one, optimizer_of, segmentor, setting, train_step
from torch import Tensor

import semiseg.methods.prototype as module
from semiseg.augment import strong_view
from semiseg.method_options import PrototypeOptions
from semiseg.methods.prototype import Prototype
from semiseg.sampling import all_points, grid_points
from semiseg.types import IGNORE, LabeledBatch, UnlabeledBatch

TAU = 0.55  # keeps some of the tiny network's pseudo-labels and drops others
PLAIN = {"prototypes": 2, "threshold": TAU, "mix_probability": 1.0, "grid": None}


def method_of(aux: bool = False, **changes) -> Prototype:
    """The method, started: its teacher unlike its student, its prototypes drawn."""
    options = PrototypeOptions(**(PLAIN | changes))
    method = Prototype(segmentor(aux=aux), options, setting()).train()
    method.started.fill_(True)
    method.teacher.copy_from(segmentor(seed=1, aux=aux))
    generator = torch.Generator().manual_seed(5)
    head = method.prototypes
    head.prototypes.copy_(0.3 + torch.rand(head.prototypes.shape, generator=generator))
    head.ready.fill_(True)
    return method


# ---- the slow twin ----


def softmax(row: np.ndarray) -> np.ndarray:
    exponentials = np.exp(row - row.max())
    return exponentials / exponentials.sum()


def feature_at(features: np.ndarray, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
    """The feature (D,) at pixel (y, x) of the map (D, h, w) upsampled to `size`, corners aligned."""
    _, h, w = features.shape
    v, u = y * (h - 1) / (size[0] - 1), x * (w - 1) / (size[1] - 1)
    total = np.zeros(len(features))
    for row in range(h):
        for column in range(w):
            total += max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column)) * features[:, row, column]
    return total


@dataclass
class Twin:
    """What a step should do, from the weights before it and from what the student was shown and answered."""

    method: Prototype
    labeled: LabeledBatch
    unlabeled: UnlabeledBatch
    points: Tensor
    shown: Tensor  # what the student saw
    logits: np.ndarray
    features: np.ndarray
    pseudo: dict = field(default_factory=dict)  # (image, y, x) -> label, confidence, valid before the mix
    mixed: dict = field(default_factory=dict)  # the same after it

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.labeled.label.shape[1:])

    def cosines(self, feature: np.ndarray, number: int) -> list[float]:
        prototypes = self.method.prototypes.prototypes[number].double().numpy()
        return [float(feature @ p / np.sqrt((feature @ feature) * (p @ p))) for p in prototypes]

    def prototype_logits(self, feature: np.ndarray) -> np.ndarray:
        best = [max(self.cosines(feature, number)) for number in range(len(CLASSES))]
        return np.array(best) / self.method.options.temperature

    def teach(self) -> None:
        """Eq. 7 on every pixel."""
        output = self.method.teacher(self.unlabeled.image)
        logits, features = output.logits.double().numpy(), output.features.double().numpy()
        for place in np.ndindex(*self.unlabeled.valid.shape):
            b, y, x = place
            row = logits[b, :, y, x]
            if not self.method.options.linear:
                row = self.prototype_logits(feature_at(features[b], y, x, self.size))
            posterior = softmax(row)
            label = int(posterior.argmax())
            self.pseudo[place] = (label, posterior[label], bool(self.unlabeled.valid[place]))

    def mix(self) -> None:
        """From whose image each pixel came, read off the pixels the student saw."""
        images, shown = self.unlabeled.image, self.shown[len(self.labeled.image) :]
        for b, y, x in np.ndindex(*self.unlabeled.valid.shape):
            partner = (b + 1) % len(images)
            if shown[b, :, y, x].equal(images[b, :, y, x]):
                self.mixed[b, y, x] = self.pseudo[b, y, x]
            elif shown[b, :, y, x].equal(images[partner, :, y, x]):
                self.mixed[b, y, x] = self.pseudo[partner, y, x]
            else:
                assert not shown[b, :, y, x].any()
                self.mixed[b, y, x] = (IGNORE, 0.0, False)

    def divisor(self, places: list[tuple[int, int, int]]) -> float:
        kept = sum(self.teaches(place) for place in places)
        valid = sum(self.mixed[place][2] for place in places)
        return {"all": valid, "kept": kept, "u2pl": kept**2 / valid}[self.method.options.denominator]

    def teaches(self, place: tuple[int, int, int]) -> bool:
        label, confidence, valid = self.mixed[place]
        return valid and label != IGNORE and confidence >= self.method.options.threshold

    def sampled(self, count: int) -> list[tuple[int, int, int]]:
        return [(b, y, x) for b in range(count) for y, x in self.points.tolist()]

    def losses(self) -> tuple[dict[str, float], np.ndarray]:
        """Every loss, and the prototypes after the step."""
        self.teach()
        self.mix()
        options, first = self.method.options, len(self.labeled.image)
        everywhere = list(self.mixed)
        total = dict.fromkeys(("supervised", "unlabeled", "prototype", "prototype_unlabeled"), 0.0)
        assigned: dict[tuple[int, int], list[np.ndarray]] = {}

        labels = {place: int(self.labeled.label[place]) for place in np.ndindex(*self.labeled.label.shape)}
        for place, label in labels.items():
            if label != IGNORE:
                total["supervised"] -= math.log(softmax(self.logits[place[0]][:, place[1], place[2]])[label])
        for b, y, x in filter(self.teaches, everywhere):
            total["unlabeled"] -= math.log(softmax(self.logits[first + b][:, y, x])[self.mixed[b, y, x][0]])

        on_labeled = [place for place in self.sampled(first) if labels[place] != IGNORE]
        on_unlabeled = [place for place in self.sampled(len(self.unlabeled.image)) if self.teaches(place)]
        pixels = [("prototype", 0, place, labels[place]) for place in on_labeled]
        pixels += [("prototype_unlabeled", first, place, self.mixed[place][0]) for place in on_unlabeled]
        for name, offset, (b, y, x), label in pixels:
            feature = feature_at(self.features[offset + b], y, x, self.size)
            total[name] -= math.log(softmax(self.prototype_logits(feature))[label])
            assigned.setdefault((label, int(np.argmax(self.cosines(feature, label)))), []).append(feature)

        w, u = options.prototype_weight, options.unlabeled_weight
        scaled = {
            "supervised": total["supervised"] / sum(label != IGNORE for label in labels.values()),
            "unlabeled": u * total["unlabeled"] / self.divisor(everywhere),
            "prototype": w * total["prototype"] / len(on_labeled),
            "prototype_unlabeled": w
            * u
            * total["prototype_unlabeled"]
            / self.divisor(self.sampled(len(self.unlabeled[0]))),
        }
        names = [*(["supervised", "unlabeled"] if options.linear else [])]
        names += ["prototype", "prototype_unlabeled"] if options.prototype else []
        return {name: scaled[name] for name in names}, self.updated(assigned)

    def updated(self, assigned: dict[tuple[int, int], list[np.ndarray]]) -> np.ndarray:
        """Eq. 11."""
        options, prototypes = self.method.options, self.method.prototypes.prototypes.double().numpy().copy()
        for place, features in assigned.items() if options.update and options.prototype else ():
            times = len(features) if options.update_rule == "per_pixel" else 1
            for _ in range(times):
                mean = np.mean(features, axis=0)
                prototypes[place] = options.momentum * prototypes[place] + (1 - options.momentum) * mean
        return prototypes


def spied(method: Prototype) -> list:
    """A list that gets (image, output) of the student's every call."""
    seen: list = []
    method.student.register_forward_hook(lambda _, arguments, output: seen.append((arguments[0], output)))
    return seen


def one_step(method: Prototype, points: Tensor) -> tuple[dict[str, Tensor], Twin]:
    """The losses of a step, and the twin that knows the weights from before."""
    labeled, unlabeled = batches()
    before, seen = copy.deepcopy(method), spied(method)
    result = method(labeled, unlabeled, clock())
    ((shown, output),) = seen
    answers = (tensor.detach().double().numpy() for tensor in (output.logits, output.features))
    return dict(result.losses), Twin(before, labeled, unlabeled, points, shown, *answers)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mix": "cutout"},
        {"mix": "classmix"},
        {"mix": "none"},
        {"linear": False},
        {"linear": False, "mix": "classmix", "temperature": 0.05},
        {"prototype": False},
        {"update": False},
        {"update_rule": "per_pixel", "momentum": 0.9},
        {"momentum": 0.5},
        {"prototypes": 1},
        {"prototypes": 3, "temperature": 0.3},
        {"threshold": 0.0},
        {"threshold": 0.7},
        {"denominator": "kept"},
        {"denominator": "u2pl", "mix": "cutout"},
        {"unlabeled_weight": 0.3, "prototype_weight": 2.5},
        {"grid": 4},
        {"grid": 3, "denominator": "u2pl", "update_rule": "per_pixel"},
        {"grid": 100},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()) or "plain",
)
def test_a_step_equals_its_slow_twin(changes, monkeypatch):
    drawn = []
    recorded = lambda *arguments: drawn.append(grid_points(*arguments)) or drawn[-1]  # noqa: E731
    monkeypatch.setattr(module, "grid_points", recorded)
    method = method_of(**changes)
    losses, twin = one_step(method, all_points(9, 11))
    if drawn:
        twin.points = drawn[0]
        grid = changes["grid"]
        assert len(twin.points) == min(grid, 9) * min(grid, 11)
    expected, prototypes = twin.losses()
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    teaching = sum(twin.teaches(place) for place in twin.mixed) / len(twin.mixed)
    assert 0.05 < teaching < 0.97
    method.after_step(clock())
    np.testing.assert_allclose(method.prototypes.prototypes.numpy(), prototypes, atol=1e-5)
    assert np.abs(prototypes - twin.method.prototypes.prototypes.numpy()).max() > 1e-4 or not (
        method.options.prototype and method.options.update
    )


def test_the_record_has_the_share_of_valid_pixels_that_teach():
    method = method_of(mix="cutout")
    labeled, unlabeled = batches()
    before = copy.deepcopy(method)
    result = method(labeled, unlabeled, clock())
    _, pseudo = before.mixed(unlabeled, clock())
    expected = pseudo.kept(TAU).sum() / pseudo.valid.sum()
    assert result.stats["kept"] == expected
    assert not result.stats["kept"].requires_grad


def test_the_auxiliary_head_learns_from_labels_only():
    method = method_of(aux=True)
    losses, _ = one_step(method, all_points(9, 11))
    assert set(losses) == {"supervised", "aux", "unlabeled", "prototype", "prototype_unlabeled"}
    assert "aux" not in one_step(method_of(aux=True, linear=False), all_points(9, 11))[0]


def test_the_strong_view_is_the_students_alone():
    method = method_of(strong=True, mix="none")
    labeled, unlabeled = batches()
    seen, taught = spied(method), []
    method.teacher.segmentor.register_forward_hook(lambda _, arguments, output: taught.append(arguments[0]))
    method(labeled, unlabeled, clock())
    expected = strong_view(unlabeled.image, method.setting.augment, clock().generator)
    assert not expected.equal(unlabeled.image)
    assert seen[0][0].equal(torch.cat([labeled.image, expected]))
    assert len(taught) == 1
    assert taught[0].equal(unlabeled.image)


# ---- every pixel, in parts ----


def test_parts_of_a_dense_step_give_the_same_losses_gradients_and_prototypes(monkeypatch):
    found = []
    for at_once in (10, 10**6):
        monkeypatch.setattr(module, "POINTS_AT_ONCE", at_once)
        calls: list[Callable] = []
        real = torch.utils.checkpoint.checkpoint
        monkeypatch.setattr(module, "checkpoint", lambda *a, calls=calls, **k: calls.append(a[0]) or real(*a, **k))
        method = method_of()
        result = method(*batches(), clock())
        result.loss.backward()
        assert len(calls) == (math.ceil(99 / 10) if at_once == 10 else 0)
        method.after_step(clock())
        gradients = {name: p.grad for name, p in method.student.named_parameters()}
        found.append((dict(result.losses), gradients, method.state_dict()))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_micro_batches_move_the_prototypes_once_and_together():
    method, momentum = method_of(mix="none"), 0.9
    object.__setattr__(method.options, "momentum", momentum)
    twins = []
    for seed in (0, 1):
        labeled, unlabeled = batches(seed=seed)
        before, seen = copy.deepcopy(method), spied(method)
        method(labeled, unlabeled, clock()).loss.backward()
        answers = (getattr(seen[0][1], name).detach().double().numpy() for name in ("logits", "features"))
        twins.append(Twin(before, labeled, unlabeled, all_points(9, 11), seen[0][0], *answers))
    assert method.prototypes.prototypes.equal(twins[0].method.prototypes.prototypes)
    pooled: dict[tuple[int, int], list[np.ndarray]] = {}
    for twin in twins:
        twin.updated = lambda assigned: [
            pooled.setdefault(place, []).extend(found) for place, found in assigned.items()
        ]
        twin.losses()
    method.after_step(clock())
    expected = Twin.updated(twins[0], pooled)
    assert twins[0].method.options.momentum == momentum
    np.testing.assert_allclose(method.prototypes.prototypes.numpy(), expected, atol=1e-5)


def test_a_step_forgets_what_it_assigned():
    method = method_of(momentum=0.9)
    method(*batches(), clock())
    method.after_step(clock())
    after = method.prototypes.prototypes.clone()
    method.after_step(clock(1))
    assert method.prototypes.prototypes.equal(after)


# ---- who learns ----


@pytest.mark.parametrize("linear", [True, False])
def test_gradients_reach_the_student_and_nothing_else(linear):
    method = method_of(linear=linear)
    method(*batches(), clock()).loss.backward()
    for name, parameter in method.student.named_parameters():
        learns = linear or "classifier" not in name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert not method.prototypes.prototypes.requires_grad
    assert {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad} == {"student"}


def test_prototypes_stay_in_float32_under_autocast():
    plain, cast = method_of(), method_of()
    expected = plain(*batches(), clock())
    seen = spied(cast)
    with torch.autocast("cpu", torch.bfloat16):
        result = cast(*batches(), clock())
    assert seen[0][1].features.dtype in (torch.bfloat16, torch.float32)
    assert {loss.dtype for loss in result.losses.values()} == {torch.float32}
    assert cast._assigned.sums.dtype == torch.float32
    assert float(result.losses["prototype"].detach()) == pytest.approx(expected.losses["prototype"].item(), rel=0.05)
    # The prototype loss itself is exact: the twin, in float64 on the features the network gave, agrees to 1e-4.
    image, output = seen[0]
    answers = (tensor.detach().double().numpy() for tensor in (output.logits, output.features))
    with torch.autocast("cpu", torch.bfloat16):
        twin = Twin(method_of(), *batches(), all_points(9, 11), image, *answers)
        losses, prototypes = twin.losses()
    assert result.losses["prototype"].item() == pytest.approx(losses["prototype"], rel=1e-4)
    cast.after_step(clock())
    assert cast.prototypes.prototypes.dtype == torch.float32
    assert np.abs(cast.prototypes.prototypes.numpy() - prototypes).max() < 1e-3


# ---- Algorithm 2 ----


def test_warm_up_is_supervised_only():
    method = Prototype(segmentor(), PrototypeOptions(**PLAIN, warmup=0.3), setting()).train()
    optimizer, (labeled, unlabeled) = optimizer_of(method), batches()
    teacher = copy.deepcopy(method.teacher.state_dict())
    assert method.prepare_at == 3
    for step in range(3):
        result = train_step(method, optimizer, (labeled, None if step == 1 else unlabeled), clock(step))
        assert set(result.losses) == {"supervised"}
        assert method.predictor.segmentor is method.student
        assert method.predictor.prototypes is None
        assert method.health() == ({}, [])
    assert all(tensor.equal(method.teacher.state_dict()[name]) for name, tensor in teacher.items())
    assert not method.prototypes.ready.any()
    student = copy.deepcopy(method.student.state_dict())
    method.prepare(one_by_one(labeled), clock(3))
    assert all(tensor.equal(method.teacher.segmentor.state_dict()[name]) for name, tensor in student.items())
    assert method.prototypes.ready.all()
    result = train_step(method, optimizer, (labeled, unlabeled), clock(4))
    assert set(result.losses) == {"supervised", "unlabeled", "prototype", "prototype_unlabeled"}
    assert method.predictor.segmentor is method.teacher.segmentor
    assert method.predictor.prototypes is method.prototypes


@pytest.mark.parametrize("step", [3, 4, 5])
def test_the_teachers_average_counts_from_the_end_of_warm_up(step):
    method = Prototype(segmentor(), PrototypeOptions(**PLAIN, warmup=0.3), setting())
    method.teacher.copy_from(segmentor(seed=1))
    before = method.teacher.segmentor.decoder.classifier[1].weight.clone()
    method.after_step(clock(step))
    decay = {3: 0.0, 4: 0.5, 5: 2 / 3}[step]
    expected = decay * before + (1 - decay) * method.student.decoder.classifier[1].weight
    torch.testing.assert_close(method.teacher.segmentor.decoder.classifier[1].weight, expected)


def test_the_start_is_kmeans_on_the_students_features_in_eval_mode():
    method = Prototype(segmentor(dropout=0.5), PrototypeOptions(**PLAIN), setting()).train()
    labeled, _ = batches(labeled=3)
    method.prepare(one_by_one(labeled), clock())
    features = copy.deepcopy(method.student).eval()(labeled.image).features.detach().double().numpy()
    for number, prototypes in enumerate(method.prototypes.prototypes.double().numpy()):
        places = (labeled.label == number).nonzero().tolist()
        own = np.array([feature_at(features[b], y, x, (9, 11)) for b, y, x in places])
        nearest = ((own[:, None] - prototypes) ** 2).sum(-1).argmin(1)
        for k in range(2):  # a fixed point of Lloyd's iteration...
            np.testing.assert_allclose(prototypes[k], own[nearest == k].mean(0), atol=0.02)
        inertia = ((own - prototypes[nearest]) ** 2).sum()  # ...as good as the best of ten others
        assert inertia <= 1.02 * KMeans(2, n_init=10, random_state=1).fit(own).inertia_


def test_the_start_takes_so_many_pixels_per_class_and_image(monkeypatch):
    given = []
    method = method_of(init_pixels=7)
    monkeypatch.setattr(method.prototypes, "start", lambda features, label, seed: given.append((label, seed)))
    method.prepare(one_by_one(batches(labeled=3)[0]), clock())
    monkeypatch.setattr(module, "PIXELS_PER_IMAGE", 2)
    method.prepare(one_by_one(batches(labeled=3)[0]), clock())
    assert [label.bincount().tolist() for label, _ in given] == [[7, 7, 7], [6, 6, 6]]
    assert [seed for _, seed in given] == [0, 0]


def test_without_prototypes_there_is_no_start_and_no_prototype_predictor():
    method = method_of(prototype=False)
    method.prototypes.ready.fill_(False)
    method.prepare(one_by_one(batches()[0]), clock())
    assert not method.prototypes.ready.any()
    assert set(method.predictor(torch.randn(1, 3, 9, 11))) == {"linear"}
    assert method.health() == ({}, [])


@pytest.mark.parametrize("linear", [True, False])
def test_a_class_absent_from_the_labels_does_not_stop_training(linear):
    method = Prototype(segmentor(), PrototypeOptions(**PLAIN, linear=linear), setting()).train()
    optimizer = optimizer_of(method)
    labeled, unlabeled = batches(classes=2)
    for step in range(3):
        result = train_step(method, optimizer, (labeled, unlabeled), clock(step))
        assert all(loss.isfinite() for loss in result.losses.values())
    assert method.prototypes.ready[:2].all()
    assert all(logits.isfinite().all() for logits in method.predictor(unlabeled.image).values())
    train_step(method, optimizer, batches(seed=1), clock(3))
    assert method.prototypes.ready[2].any()
    assert method.prototypes.prototypes.isfinite().all()


# ---- what is used, and what is said of it ----


@pytest.mark.parametrize(("linear", "names"), [(True, ["linear", "prototype"]), (False, ["prototype", "linear"])])
def test_both_predictors_of_the_teacher_speak_and_the_headline_first(linear, names):
    method = method_of(linear=linear)
    image = torch.randn(2, 3, 9, 11)
    found = method.predictor(image)
    assert list(found) == names
    output = method.teacher(image)
    assert found["linear"].equal(output.logits)
    logits = np.array(
        [
            [
                Twin(method, *batches(), None, image, None, None).prototype_logits(feature_at(map_, y, x, (9, 11)))
                for x in (0, 5)
            ]
            for map_ in output.features.double().numpy()
            for y in (3,)
        ]
    )
    np.testing.assert_allclose(found["prototype"][:, :, 3, [0, 5]].movedim(1, -1).numpy(), logits, atol=1e-4)


def test_a_collapse_is_reported_by_class_name():
    method = method_of()
    method(*batches(), clock())
    method.after_step(clock())
    figures, warnings = method.health()
    assert warnings == []
    assert set(figures) == {"prototype_usage", "prototype_distance", "prototype_closest"}
    assert np.sum(figures["prototype_usage"], axis=1) == pytest.approx(1, abs=1e-3)
    method.prototypes.prototypes[2] = method.prototypes.prototypes[2, :1]
    (warning,) = method.health()[1]
    assert "bird" in warning


def test_a_state_dict_carries_teacher_and_prototypes():
    method, optimizer = method_of(), None
    optimizer = optimizer_of(method)
    for step in range(2):
        train_step(method, optimizer, batches(seed=step), clock(step + 1))
    other = Prototype(segmentor(seed=9), PrototypeOptions(**PLAIN), setting()).train()
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(other.state_dict(), method.state_dict(), rtol=0, atol=0)
    first, second = (made(*batches(seed=3), clock(3)).losses for made in (method, other))
    assert {name: loss.item() for name, loss in first.items()} == {name: loss.item() for name, loss in second.items()}
