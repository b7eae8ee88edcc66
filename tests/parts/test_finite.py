"""A NaN or an infinity, put in every place where one can come from, is named in the step in which it came."""

import re
from dataclasses import replace

import pytest
import torch
from support.tiny import CLASSES, batches, clock, optimizer_of
from support.variants import STEPS, method_of

from semiseg.config.changes import changed_options
from semiseg.config.recipe import Config, load_config
from semiseg.methods.method import Method
from semiseg.parts.finite import KINDS, Cause, FiniteWatch, advice, not_finite

BAD = 3  # the step, counted from 0, in which the number goes in
VALUES = pytest.mark.parametrize("value", [float("nan"), -float("inf")])


class Run:
    """What the trainer does with a watch."""

    def __init__(self, variant: str = "prototype") -> None:
        self.method = method_of(variant)
        self.optimizer = optimizer_of(self.method)
        self.watch = FiniteWatch(self.method, CLASSES)
        self.losses: list[tuple[int, dict[str, float]]] = []

    def steps(self, first: int, last: int, spoil=lambda labeled, unlabeled: (labeled, unlabeled)) -> None:
        for step in range(first, last):
            labeled, unlabeled = batches(seed=step)
            if step == self.method.prepare_at:
                self.method.prepare([type(labeled)(*(each[:1] for each in labeled[:3]))], clock(step, STEPS))
            labeled, unlabeled = spoil(labeled, unlabeled) if step == BAD else (labeled, unlabeled)
            result = self.method(labeled, unlabeled, clock(step, STEPS))
            result.loss.backward()
            self.losses.append((step + 1, {name: loss.item() for name, loss in result.losses.items()}))
            self.watch.look(step + 1)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.method.after_step(clock(step, STEPS))

    def cause(self) -> Cause | None:
        return self.watch.cause(self.losses, self.optimizer.state)

    def count(self) -> float:
        return self.watch.count(self.optimizer.state).item()


@pytest.mark.parametrize("variant", ["supervised", "prototype", "u2pl", "cps prototypes", "gct", "ael", "corrmatch"])
def test_nothing_is_named_where_all_is_finite(variant):
    run = Run(variant)
    run.steps(0, STEPS)
    assert run.count() == 0
    assert run.cause() is None


def weight_of(name):
    return lambda method: dict(method.named_parameters())[name].data


def buffer_of(name):
    return lambda method: dict(method.named_buffers())[name]


PLACES = {  # variant, a tensor to spoil before step BAD, and the kind and the first name that are to be said of it
    "weight": (
        "prototype", weight_of("student.encoder.shallow.0.weight"), "activations", "student.encoder.shallow.1"
    ),
    "running mean": (
        "prototype", buffer_of("student.encoder.deep.1.running_mean"), "statistics", "student.encoder.deep.1"
    ),
    "running variance": (
        "prototype", buffer_of("student.encoder.deep.1.running_var"), "statistics", "student.encoder.deep.1"
    ),
    "the teacher's mean": (
        "mean_teacher", buffer_of("teacher.segmentor.encoder.deep.1.running_mean"), "statistics",
        "teacher.segmentor.encoder.deep.1",
    ),
    "prototype": ("prototype", lambda method: method.prototypes.predictor.prototypes[1], "prototypes", "tree"),
    "right prototype": (
        "cps prototypes", lambda method: method.right_prototypes.predictor.prototypes[2], "prototypes", "bird"
    ),
}  # fmt: skip


@VALUES
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("later", [0, 2])
def test_a_bad_state_is_named_in_its_step_though_all_is_bad_at_the_log(place, value, later):
    variant, tensor, kind, name = PLACES[place]
    run = Run(variant)
    run.steps(0, BAD)
    assert run.count() == 0
    with torch.no_grad():
        tensor(run.method).view(-1)[0] = value
    run.steps(BAD, BAD + 1 + later)
    assert run.count() > 0
    cause = run.cause()
    assert cause is not None
    assert (cause.kind, cause.step, cause.names[0]) == (kind, BAD + 1, name)
    assert f'"{name}"' in str(cause)
    assert str(cause).count(f"at step {BAD + 1}") == 1


@VALUES
def test_a_bad_image_is_named_by_the_first_layer_it_meets(value):
    """Images of a run are bytes; in a loop of one's own they are what one makes them."""
    run = Run()

    def spoil(labeled, unlabeled):
        labeled.image[0, 0, 4, 4] = value
        return labeled, unlabeled

    run.steps(0, STEPS, spoil)
    cause = run.cause()
    assert cause is not None
    assert (cause.kind, cause.step, cause.names[0]) == ("activations", BAD + 1, "student.encoder.shallow.1")
    assert str(cause) == (
        'what came into the BatchNorm layer "student.encoder.shallow.1" is not finite at step 4: '
        "the weights in front of it had grown too large, or the images were not"
    )


@VALUES
@pytest.mark.parametrize("later", [0, 2])
def test_a_bad_loss_is_named(value, later):
    run = Run()
    prototypes = run.method.prototypes
    assert prototypes is not None
    run.steps(0, BAD)
    prototypes.options = replace(prototypes.options, weight=2.0)
    object.__setattr__(prototypes.options, "weight", value)
    run.steps(BAD, BAD + 1 + later)
    cause = run.cause()
    assert cause == Cause("loss", BAD + 1, ("prototype", "prototype_unlabeled"))
    assert str(cause) == 'the losses "prototype", "prototype_unlabeled" are not finite at step 4'


@VALUES
@pytest.mark.parametrize("later", [0, 2])
def test_a_bad_gradient_of_finite_losses_is_named_from_the_source_on(value, later):
    run = Run()
    run.steps(0, BAD)
    hooks = [
        run.method.student.get_parameter(name).register_hook(lambda gradient: gradient * value)
        for name in ("encoder.shallow.0.bias", "encoder.deep.0.weight")
    ]
    run.steps(BAD, BAD + 1)
    [hook.remove() for hook in hooks]
    run.steps(BAD + 1, BAD + 1 + later)
    cause = run.cause()
    assert cause == Cause("gradient", BAD + 1, ("student.encoder.deep.0.weight", "student.encoder.shallow.0.bias"))
    assert "overflowed in the backward pass" in str(cause)


@VALUES
@pytest.mark.parametrize(("variant", "kind"), [("prototype", "momentum_buffer"), ("gct", "exp_avg")])
def test_a_bad_memory_of_the_optimizer_is_named_at_the_next_log(value, variant, kind):
    run = Run(variant)
    run.steps(0, BAD)
    (weight, state), *_ = [item for item in run.optimizer.state.items() if kind in item[1]]
    state[kind].view(-1)[0] = value
    name = next(name for name, each in run.method.named_parameters() if each is weight)
    assert run.count() == 1
    cause = run.cause()
    assert cause == Cause("optimizer", None, (name,))
    assert str(cause) == f'the optimizer\'s memory of "{name}" is not finite, while the gradients were'


@VALUES
@pytest.mark.parametrize(
    ("variant", "name"), [("ael", "bank.confidence"), ("corrmatch", "tau"), ("u2pl", "queues.rows")]
)
def test_what_a_method_remembers_is_named_at_the_next_log(value, variant, name):
    run = Run(variant)
    run.steps(0, BAD)
    run.method.get_buffer(name).view(-1)[0] = value
    assert run.count() == 1
    assert run.cause() == Cause("memory", None, (name,))


def test_a_step_that_is_too_long_names_the_weight():
    run = Run()
    for group in run.optimizer.param_groups:
        group["lr"] = float("inf")
    run.steps(0, 1)
    cause = run.cause()
    assert cause is not None
    assert cause.kind == "weight"
    assert cause.step is None
    assert "step was too long" in str(cause)


def test_all_names_of_one_layer_count_once_and_long_lists_are_cut():
    assert str(Cause("loss", 2, tuple("abcdefg"))) == (
        'the losses "a", "b", "c", "d", "e" and 2 more are not finite at step 2'
    )


def test_of_two_steps_the_first_is_the_cause():
    run = Run()
    run.losses = [(7, {"a": 1.0, "b": float("nan")}), (6, {"a": float("inf"), "b": 0.0})]
    assert run.cause() == Cause("loss", 6, ("a",))


@VALUES
@pytest.mark.parametrize("place", [0, -1])
def test_one_bad_number_of_a_tensor_is_enough(value, place):
    good, bad = torch.randn(2, 1001).double(), torch.randn(3, 337)
    bad.view(-1)[place] = value
    assert not_finite([good, bad, torch.zeros(1)]).tolist() == [False, True, False]
    assert not_finite([]).tolist() == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_advice_is_for_a_new_run_and_of_options_that_are_there(kind, precision):
    said = advice(Cause(kind, 1, ("x",)), precision)
    assert "A new run (another --run)" in said
    assert ("--train.precision fp32" in said) <= (precision == "bf16")
    config = load_config("demo", {"train.precision": "bf16"})
    for option, value in re.findall(r"--(\w+\.\w+)(?: (fp32))?", said):
        changed: Config = load_config("demo", {"train.precision": "bf16", option: value or 3})
        assert changed_options(changed, config), f"{option} could be changed on resuming, so no new run is needed"


def test_a_method_without_batchnorm_or_prototypes_is_watched_too():
    method = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    method["b"].requires_grad_(False)
    watch = FiniteWatch(method, ())
    watch.look(1)
    assert watch.count({}).item() == 0
    method["a"].weight.grad = torch.full((2, 2), float("nan"))
    watch.look(2)
    assert watch.count({}).item() == 1
    assert watch.cause([], {}) == Cause("gradient", 2, ("a.weight",))
    assert isinstance(Run().method, Method)
