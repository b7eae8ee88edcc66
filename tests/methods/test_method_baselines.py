"""Supervised only, Mean Teacher and CutMix-Seg against slow twins."""

import copy
import math

import numpy as np
import pytest
import torch
from support.oracles import mean_cross_entropy, observed, probabilities, started
from support.tiny import batches, clock, segmentor, setting

from semiseg.config.methods import CutMixOptions, MeanTeacherOptions, SupervisedOptions
from semiseg.config.methods.shared import TeacherOptions
from semiseg.config.options import LossOptions
from semiseg.methods.cutmix import CutMix
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.supervised import Supervised
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import share
from semiseg.parts.mixing import french_boxes
from semiseg.types import IGNORE

# ---- supervised only ----


def test_supervised_is_cross_entropy_on_the_labelled_images():
    method = Supervised(segmentor(), SupervisedOptions(), setting())
    (labeled, unlabeled), found = batches(), observed(method)
    assert set(found["losses"]) == {"supervised"}
    ((shown, logits),) = found["student"]
    assert shown.equal(labeled.image)
    assert found["losses"]["supervised"] == pytest.approx(mean_cross_entropy(logits, labeled.label.numpy()), rel=1e-5)
    with_unlabeled, without = (method(labeled, other, clock()).loss for other in (unlabeled, None))
    assert with_unlabeled == without


def test_the_auxiliary_head_has_its_weight():
    student = segmentor(aux=True)
    method = Supervised(student, SupervisedOptions(), setting(loss=LossOptions(aux_weight=0.3)))
    labeled, _ = batches()
    losses = method(labeled, None, clock()).losses
    expected = 0.3 * mean_cross_entropy(student(labeled.image).aux.detach().double().numpy(), labeled.label.numpy())
    assert losses["aux"].item() == pytest.approx(expected, rel=1e-5)
    assert set(losses) == {"supervised", "aux"}


def test_hard_examples_are_an_option_of_every_method():
    labeled, _ = batches()
    options = LossOptions(kind="ohem", ohem_threshold=0.1, ohem_min_kept=5)
    method = Supervised(segmentor(), SupervisedOptions(), setting(loss=options))
    logits = method.student(labeled.image).logits.detach().double().numpy()
    places = [place for place in np.ndindex(*labeled.label.shape) if labeled.label[place] != IGNORE]
    truth = sorted(probabilities(logits[b, :, y, x])[labeled.label[b, y, x]] for b, y, x in places)
    hard = [p for p in truth if p <= max(0.1, truth[4])]
    expected = -np.mean(np.log(hard))
    assert method(labeled, None, clock()).loss.item() == pytest.approx(expected, rel=1e-4)


# ---- Mean Teacher ----


def test_mean_teacher_is_the_squared_difference_of_softmaxes():
    method = started(MeanTeacher(segmentor(), MeanTeacherOptions(unlabeled_weight=3.0, ramp=1.0), setting()))
    (labeled, unlabeled), found = batches(), observed(method)
    ((taught, target),) = found["teacher"]
    ((shown, logits),) = found["student"]
    assert taught.equal(unlabeled.image)
    assert shown.equal(torch.cat([labeled.image, unlabeled.image]))
    valid = [place for place in np.ndindex(*unlabeled.valid.shape) if unlabeled.valid[place]]
    squares = []
    for b, y, x in valid:
        p, q = probabilities(logits[2 + b, :, y, x]), probabilities(target[b, :, y, x])
        squares += [(p[c] - q[c]) ** 2 for c in range(3)]
    expected = {
        "supervised": mean_cross_entropy(logits[:2], labeled.label.numpy()),
        "consistency": 3.0 * math.exp(-5 * 0.5**2) * sum(squares) / len(squares),
    }
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert len(valid) < unlabeled.valid.numel()


def test_noise_is_on_the_students_unlabelled_images_alone():
    method = started(MeanTeacher(segmentor(), MeanTeacherOptions(noise=0.5), setting()))
    (labeled, unlabeled), found = batches(), observed(method)
    assert found["teacher"][0][0].equal(unlabeled.image)
    noise = found["student"][0][0] - torch.cat([labeled.image, unlabeled.image])
    assert noise[:2].eq(0).all()
    assert float(noise[2:].std()) == pytest.approx(0.5, rel=0.1)
    assert float(noise[2:].mean()) == pytest.approx(0.0, abs=0.06)
    other = observed(started(MeanTeacher(segmentor(), MeanTeacherOptions(noise=0.5), setting())), seed=1)
    assert not other["student"][0][0].equal(found["student"][0][0])


@pytest.mark.parametrize(
    ("step", "weight"),
    [
        (20, 100 * math.exp(-5)),
        (24, 100 * math.exp(-5 * 0.75**2)),
        (28, 100 * math.exp(-5 * 0.5**2)),
        (36, 100.0),
        (99, 100.0),
    ],
)
def test_the_weight_rises_over_a_share_of_the_steps_after_warm_up(step, weight):
    options = MeanTeacherOptions(ramp=0.2, warmup=0.2)
    method = MeanTeacher(segmentor(), options, setting(total_steps=100))
    assert method.weight(clock(step, 100)) == pytest.approx(weight)


def test_without_a_ramp_the_weight_is_full_from_the_start():
    method = MeanTeacher(segmentor(), MeanTeacherOptions(ramp=0.0, unlabeled_weight=7.0), setting())
    assert method.weight(clock(0)) == 7.0


# ---- CutMix-Seg ----


@pytest.mark.parametrize("confidence", ["batch", "pixel"])
def test_cutmix_weighs_the_squared_distance_by_the_share_of_confident_pixels(confidence):
    options = CutMixOptions(threshold=0.6, confidence=confidence, strong=False, unlabeled_weight=2.0)
    method = started(CutMix(segmentor(), options, setting()))
    (labeled, unlabeled), found = batches(), observed(method)
    ((taught, answers),) = found["teacher"]
    ((shown, logits),) = found["student"]
    assert taught.equal(unlabeled.image)

    confident, distances = [], []  # of the valid pixels of the mix
    pasted = 0
    for b, y, x in np.ndindex(*unlabeled.valid.shape):
        partner = (b + 1) % 3
        own = shown[2 + b, :, y, x].equal(unlabeled.image[b, :, y, x])
        assert own or shown[2 + b, :, y, x].equal(unlabeled.image[partner, :, y, x])
        pasted += not own
        source = b if own else partner
        if unlabeled.valid[source, y, x]:
            p, q = probabilities(logits[2 + b, :, y, x]), probabilities(answers[source, :, y, x])
            confident.append(q.max() >= 0.6)
            distances.append(sum((p[c] - q[c]) ** 2 for c in range(3)))
    assert 0.05 < np.mean(confident) < 0.95
    assert pasted / unlabeled.valid.numel() == pytest.approx(0.5, abs=0.1)
    if confidence == "batch":
        consistency = np.mean(confident) * np.mean(distances)
    else:
        consistency = np.mean(np.array(confident) * np.array(distances))
    supervised = mean_cross_entropy(logits[:2], labeled.label.numpy())
    assert found["losses"] == pytest.approx({"supervised": supervised, "consistency": 2.0 * consistency}, rel=1e-4)
    assert float(found["stats"]["kept"]) == pytest.approx(np.mean(confident))


def test_cutmix_pastes_boxes_of_the_strong_view_and_teaches_on_the_weak():
    method = started(CutMix(segmentor(), CutMixOptions(), setting()))
    (labeled, unlabeled), found = batches(), observed(method)
    generator = clock(5).generator
    strong = strong_view(unlabeled.image, method.context.augment, generator)
    boxes = french_boxes(torch.empty(3, 3, 9, 11), generator)
    expected = torch.where(boxes[:, None], strong.roll(-1, 0), strong)
    assert found["teacher"][0][0].equal(unlabeled.image)
    assert found["student"][0][0].equal(torch.cat([labeled.image, expected]))
    assert not strong.equal(unlabeled.image)


def test_a_teacher_that_is_never_confident_teaches_nothing():
    method = started(CutMix(segmentor(), CutMixOptions(threshold=1.0), setting()))
    assert observed(method)["losses"]["consistency"] == 0


# ---- what methods with a teacher share ----


def test_warm_up_follows_nothing_and_then_the_teacher_starts_by_value():
    method = MeanTeacher(segmentor(), MeanTeacherOptions(warmup=0.25), setting(total_steps=20))
    assert method.prepare_at == 5
    assert method.predictor.segmentor is method.student
    method.student.load_state_dict(segmentor(seed=1).state_dict())
    before = copy.deepcopy(method.teacher.state_dict())
    method.after_step(clock(4, 20))
    assert all(tensor.equal(before[name]) for name, tensor in method.teacher.state_dict().items())
    assert set(method(*batches(), clock(4, 20)).losses) == {"supervised"}
    method.prepare([], clock(5, 20))
    assert method.predictor.segmentor is method.teacher.segmentor
    student = copy.deepcopy(method.student.state_dict())
    assert all(tensor.equal(student[name]) for name, tensor in method.teacher.segmentor.state_dict().items())
    assert set(method(*batches(), clock(5, 20)).losses) == {"supervised", "consistency"}


def test_the_teacher_may_be_the_average_of_the_warm_up():
    options = MeanTeacherOptions(warmup=0.5, teacher_start="average", ema_decay=0.6)
    method = MeanTeacher(segmentor(), options, setting(total_steps=6))
    students = [segmentor(seed=seed) for seed in (1, 2, 3)]
    for step, student in enumerate(students):
        method.student.load_state_dict(student.state_dict())
        method.after_step(clock(step, 6))
        assert method.predictor.segmentor is method.student
    method.prepare([], clock(3, 6))
    assert method.predictor.segmentor is method.teacher.segmentor
    first, second, third = (student.decoder.classifier[1].weight for student in students)
    expected = 0.6 * (0.5 * first + 0.5 * second) + 0.4 * third
    torch.testing.assert_close(method.teacher.segmentor.decoder.classifier[1].weight, expected)


def test_a_teacher_with_statistics_of_its_own_has_none_after_a_warm_up():
    with pytest.raises(ValueError, match="teacher_start average needs"):
        TeacherOptions(teacher_start="average", teacher_bn="own")


@pytest.mark.parametrize("teacher_bn", ["average", "own"])
def test_statistics_of_the_teacher_are_averaged_or_its_own(teacher_bn):
    options = MeanTeacherOptions(teacher_bn=teacher_bn)
    method = started(MeanTeacher(segmentor(), options, setting(total_steps=200)))
    mean = method.teacher.segmentor.encoder.shallow[1].running_mean
    before, image = mean.clone(), torch.cat([batches()[0].image, batches()[1].image])
    twin = copy.deepcopy(method.teacher.segmentor).train()
    twin(image)
    method(*batches(), clock(150, 200))
    if teacher_bn == "own":
        assert mean.equal(twin.encoder.shallow[1].running_mean)
        assert not mean.equal(before)
    else:
        assert mean.equal(before)
    after, student = mean.clone(), method.student.encoder.shallow[1].running_mean
    method.after_step(clock(150, 200))
    torch.testing.assert_close(mean, after if teacher_bn == "own" else 0.99 * after + 0.01 * student)


def test_pseudo_labels_come_from_the_teacher():
    class Plain(TeacherMethod):
        """Nothing of its own."""

    method = started(Plain(segmentor(), TeacherOptions(), setting()))
    _, unlabeled = batches()
    found = method.label(unlabeled)
    softmaxes = method.teacher(unlabeled.image).logits.softmax(1)
    assert found.label.equal(softmaxes.argmax(1).byte())
    assert found.confidence.equal(softmaxes.amax(1).half())
    assert found.valid.equal(unlabeled.valid)


def test_share_of_an_empty_mask_is_0():
    nothing, everything = torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    half = torch.tensor([[True, True, True], [False, False, False]])
    assert [float(share(mask, of)) for mask, of in ((half, everything), (half, half), (half, nothing))] == [0.5, 1, 0]
