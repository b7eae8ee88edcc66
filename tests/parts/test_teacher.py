"""The averaged teacher and its pseudo-labels."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import segmentor
from torch import nn

from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.parts.teacher import Teacher, ema_decay
from semiseg.types import PseudoLabel

HALF = 2**-11  # the largest relative rounding of float16


@pytest.mark.parametrize(
    ("updates", "decay"), [(0, 0), (1, 0.5), (2, 2 / 3), (9, 0.9), (98, 0.989899), (99, 0.99), (9999, 0.99)]
)
def test_the_decay_rises_to_its_limit(updates, decay):
    assert ema_decay(updates, 0.99) == pytest.approx(decay, abs=1e-6)


def test_on_the_way_up_the_teacher_is_the_mean_of_all_students():
    average = 0.0
    for updates, value in enumerate((4.0, 1.0, 7.0, 8.0)):
        decay = ema_decay(updates, 0.99)
        average = decay * average + (1 - decay) * value
    assert average == pytest.approx(5.0)


def two_networks():
    """Two students of different weights and BatchNorm statistics."""
    first, second = segmentor(seed=0), segmentor(seed=1)
    for network in (first, second):
        network(torch.randn(4, 3, 8, 8))
    return first, second


@pytest.mark.parametrize("average_bn", [True, False])
def test_following_equals_the_average_tensor_by_tensor(average_bn):
    first, second = two_networks()
    teacher = Teacher(first, average_bn)
    before = copy.deepcopy(teacher.segmentor.state_dict())
    teacher.follow(second, 0.9)
    parameters = dict(second.named_parameters())
    for name, theirs in second.state_dict().items():
        averaged = name in parameters or (average_bn and theirs.is_floating_point())
        expected = 0.9 * before[name] + 0.1 * theirs if averaged else before[name]
        torch.testing.assert_close(teacher.segmentor.state_dict()[name], expected)
    assert any("running_mean" in name for name in before)
    assert any("num_batches_tracked" in name for name in before)


def test_with_decay_0_the_teacher_is_the_student_exactly():
    first, second = two_networks()
    teacher = Teacher(first)
    teacher.follow(second, 0.0)
    for mine, theirs in zip(teacher.segmentor.parameters(), second.parameters(), strict=True):
        assert mine.equal(theirs)


def test_the_student_is_not_touched():
    first, second = two_networks()
    before = copy.deepcopy(second.state_dict())
    Teacher(first).follow(second, 0.5)
    assert all(tensor.equal(second.state_dict()[name]) for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in second.parameters())
    assert second.training


def test_the_teacher_becomes_the_student_by_value():
    first, second = two_networks()
    teacher = Teacher(first)
    teacher.copy_from(second)
    copied = copy.deepcopy(teacher.segmentor.state_dict())
    assert all(tensor.equal(second.state_dict()[name]) for name, tensor in copied.items())
    with torch.no_grad():
        for tensor in (*second.parameters(), *second.buffers()):
            tensor.add_(1)
    assert all(tensor.equal(copied[name]) for name, tensor in teacher.segmentor.state_dict().items())


def test_the_teacher_predicts_in_eval_mode_and_without_gradient():
    student = segmentor(dropout=0.5)
    teacher = Teacher(student)
    nn.ModuleList([student, teacher]).train()
    assert not any(module.training for module in teacher.modules())
    image = torch.randn(2, 3, 8, 8)
    found = teacher(image)
    assert found.logits.equal(student.eval()(image).logits)
    assert not found.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_own_statistics_are_those_of_train_mode_forwards():
    student = segmentor()
    teacher, image = Teacher(student, average_bn=False), torch.randn(4, 3, 8, 8)
    teacher.observe(image)
    student(image)
    for (name, mine), theirs in zip(teacher.segmentor.named_buffers(), student.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    assert not any(module.training for module in teacher.segmentor.modules())
    assert student.encoder.shallow[1].num_batches_tracked == 1


def test_a_pass_that_fails_leaves_the_teacher_in_eval_mode():
    teacher = Teacher(segmentor(), average_bn=False)
    with pytest.raises(RuntimeError, match="channels"):
        teacher.observe(torch.randn(4, 7, 8, 8))
    assert not any(module.training for module in teacher.segmentor.modules())


def test_averaged_statistics_observe_nothing():
    teacher = Teacher(segmentor())
    before = copy.deepcopy(teacher.state_dict())
    teacher.observe(torch.randn(4, 3, 8, 8))
    assert all(tensor.equal(teacher.state_dict()[name]) for name, tensor in before.items())


# ---- pseudo-labels ----


@given(st.integers(0, 10_000))
def test_pseudo_labels_equal_the_slow_twin(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 2, 3, generator=generator)
    valid = torch.rand(2, 2, 3, generator=generator) > 0.3
    found = pseudo_label(logits, valid)
    for b in range(2):
        for y in range(2):
            for x in range(3):
                exponentials = [math.exp(value) for value in logits[b, :, y, x].tolist()]
                best = max(range(4), key=exponentials.__getitem__)
                assert found.label[b, y, x] == best
                confidence = exponentials[best] / sum(exponentials)
                assert float(found.confidence[b, y, x]) == pytest.approx(confidence, rel=HALF)
    assert found.valid.equal(valid)


def test_pseudo_labels_carry_no_gradient_and_take_four_bytes_a_pixel():
    logits = torch.randn(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    found = pseudo_label(logits, torch.ones(1, 2, 2, dtype=torch.bool))
    assert not found.confidence.requires_grad
    assert [tensor.element_size() for tensor in vars(found).values()] == [1, 2, 1]
    assert found.label.max() < 3
    # The softmax itself is taken in float32.
    assert found.confidence.equal(logits.detach().float().softmax(1).amax(1).half())


def test_the_last_of_255_classes_fits():
    logits = torch.zeros(1, 255, 1, 1)
    logits[:, 254] = 9.0
    found = pseudo_label(logits, torch.ones(1, 1, 1, dtype=torch.bool))
    assert found.label.item() == 254
    assert found.kept(0.9).all()


@given(st.floats(0, 1), st.floats(0, 1, width=32))
def test_half_precision_keeps_what_reaches_the_threshold_and_at_most_what_nearly_does(threshold, confidence):
    where = torch.zeros(1, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1, dtype=torch.bool)
    pseudo = PseudoLabel(where[0], torch.full((1, 1, 1), confidence).half(), where[1])
    if confidence >= threshold:
        assert pseudo.kept(threshold)
    elif threshold - confidence > 2 * HALF:
        assert not pseudo.kept(threshold)


@pytest.mark.parametrize("confidence", [torch.half, torch.float32])
def test_a_pixel_at_the_threshold_teaches_in_either_precision(confidence):
    pixels = torch.tensor([[[0.79, 0.8, 0.81]]]).to(confidence)
    pseudo = PseudoLabel(torch.zeros(1, 1, 3, dtype=torch.uint8), pixels, torch.ones(1, 1, 3, dtype=torch.bool))
    assert pseudo.kept(0.8).tolist() == [[[False, True, True]]]


def test_a_pixel_teaches_from_the_threshold_on_and_inside_the_image():
    first, second = [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]
    logits = torch.tensor([first, second]).view(1, 2, 2, 2)
    found = pseudo_label(logits, torch.tensor([[[True, True], [True, False]]]))
    sure = float(found.confidence.max())
    assert found.kept(0.5).tolist() == [[[True, True], [True, False]]]
    assert found.kept(sure).tolist() == [[[False, True], [False, False]]]
    assert not found.kept(sure + 2 * HALF).any()
