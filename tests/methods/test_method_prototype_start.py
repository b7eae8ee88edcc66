"""Algorithm 2: warm-up, the end of it, and the K-means start."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from support.slow_prototype import PLAIN, feature_at, method_of, options_of
from support.tiny import batches, clock, one_by_one, optimizer_of, segmentor, setting, train_step

import semiseg.parts.prototypes as module
from semiseg.methods.prototype import Prototype


def test_warm_up_is_supervised_only():
    method = Prototype(segmentor(), options_of(**PLAIN, warmup=0.3), setting()).train()
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
    assert not method.prototypes.predictor.ready.any()
    student = copy.deepcopy(method.student.state_dict())
    method.prepare(one_by_one(labeled), clock(3))
    assert all(tensor.equal(method.teacher.segmentor.state_dict()[name]) for name, tensor in student.items())
    assert method.prototypes.predictor.ready.all()
    result = train_step(method, optimizer, (labeled, unlabeled), clock(4))
    assert set(result.losses) == {"supervised", "unlabeled", "prototype", "prototype_unlabeled"}
    assert method.predictor.segmentor is method.teacher.segmentor
    assert method.predictor.prototypes is method.prototypes.predictor


@pytest.mark.parametrize(("step", "decay"), [(2, None), (3, 3 / 4), (4, 4 / 5), (9, 9 / 10), (200, 0.99)])
def test_the_teacher_remembers_the_warm_up(step, decay):
    """Its ramp counts from the run's first step, so that the first student after the warm-up does not replace it."""
    method = Prototype(segmentor(), options_of(**PLAIN, warmup=0.3), setting())
    method.teacher.copy_from(segmentor(seed=1))
    before = method.teacher.segmentor.decoder.classifier[1].weight.clone()
    method.after_step(clock(step))
    student = method.student.decoder.classifier[1].weight
    expected = before if decay is None else decay * before + (1 - decay) * student
    torch.testing.assert_close(method.teacher.segmentor.decoder.classifier[1].weight, expected)


def test_the_start_is_kmeans_on_the_students_features_in_eval_mode():
    method = Prototype(segmentor(dropout=0.5), options_of(**PLAIN), setting()).train()
    labeled, _ = batches(labeled=3)
    method.prepare(one_by_one(labeled), clock())
    features = copy.deepcopy(method.student).eval()(labeled.image).features.detach().double().numpy()
    for number, prototypes in enumerate(method.prototypes.predictor.prototypes.double().numpy()):
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
    monkeypatch.setattr(method.prototypes.predictor, "start", lambda features, label, seed: given.append((label, seed)))
    method.prepare(one_by_one(batches(labeled=3)[0]), clock())
    monkeypatch.setattr(module, "PIXELS_PER_IMAGE", 2)
    method.prepare(one_by_one(batches(labeled=3)[0]), clock())
    assert [label.bincount().tolist() for label, _ in given] == [[7, 7, 7], [6, 6, 6]]
    assert [seed for _, seed in given] == [0, 0]


def test_without_prototypes_there_is_no_start_and_no_prototype_predictor():
    method = method_of(prototypes=False)
    method.prepare(one_by_one(batches()[0]), clock())
    assert method.prototypes is None
    assert set(method.predictor(torch.randn(1, 3, 9, 11))) == {"linear"}
    assert method.health() == ({}, [])


@pytest.mark.parametrize("linear", [True, False])
def test_a_class_absent_from_the_labels_does_not_stop_training(linear):
    method = Prototype(segmentor(), options_of(**PLAIN, linear=linear), setting()).train()
    optimizer = optimizer_of(method)
    labeled, unlabeled = batches(classes=2)
    for step in range(3):
        result = train_step(method, optimizer, (labeled, unlabeled), clock(step))
        assert all(loss.isfinite() for loss in result.losses.values())
    assert method.prototypes.predictor.ready[:2].all()
    assert all(logits.isfinite().all() for logits in method.predictor(unlabeled.image).values())
    train_step(method, optimizer, batches(seed=1), clock(3))
    assert method.prototypes.predictor.ready[2].any()
    assert method.prototypes.predictor.prototypes.isfinite().all()
