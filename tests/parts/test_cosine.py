"""Directions: of length 1 as ever, and 0 without a gradient where there is none."""

import torch
from torch.nn import functional as F

from semiseg.parts.cosine import SHORT, directions
from semiseg.parts.prototype_predictor import PrototypePredictor


def test_a_vector_with_a_direction_is_divided_by_its_length_to_the_bit():
    ours, theirs = (torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    for dim in (0, 1):
        found, expected = directions(ours, dim), F.normalize(theirs, dim=dim)
        assert torch.equal(found, expected)
        pull = torch.randn_like(found)
        (found * pull).sum().backward()
        (expected * pull).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)  # pyright: ignore[reportArgumentType]


def test_a_vector_without_a_direction_is_0_and_gets_no_gradient():
    vectors = torch.tensor([[0.0, 0.0], [SHORT / 2, 0.0], [3.0, 4.0]], requires_grad=True)
    found = directions(vectors)
    torch.testing.assert_close(found, torch.tensor([[0, 0], [0, 0], [0.6, 0.8]]))
    found[:, 0].sum().backward()
    assert vectors.grad is not None
    assert vectors.grad[:2].tolist() == [[0, 0], [0, 0]]
    assert vectors.grad[2].any()


def test_a_feature_of_length_0_is_as_near_to_all_prototypes_and_gets_no_gradient():
    head = PrototypePredictor(3, 2, 4)
    head.prototypes.normal_(generator=torch.Generator().manual_seed(0))
    features = torch.zeros(2, 4, requires_grad=True)
    similarity = head.similarity(features)
    assert similarity.tolist() == torch.zeros(2, 3, 2).tolist()
    (similarity * torch.arange(12.0).view(2, 3, 2)).sum().backward()
    assert features.grad is not None
    assert not features.grad.any()
