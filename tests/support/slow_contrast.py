"""U2PL's rules pixel by pixel, in plain Python: what `semiseg.methods.details.u2pl_contrast` is held against."""

import math

import numpy as np

IGNORE = 255


def softmax(logits):
    exponentials = np.exp(logits - np.max(logits))
    return exponentials / exponentials.sum()


def entropy(logits):
    """(C,) -> number."""
    return -sum(p * math.log(p) for p in softmax(logits) if p > 0)


def ranks(probability):
    """Place of each class in the order of falling probability. (C,) -> [place of class 0, ...]"""
    order = sorted(range(len(probability)), key=lambda name: -probability[name])
    return [order.index(name) for name in range(len(probability))]


def is_anchor(name, label, probability, reliable, confidence):
    return bool(reliable) and label == name and probability[name] > confidence


def is_negative(name, label, probability, unreliable, labeled, low, high):
    place = ranks(probability)[name]
    if labeled:
        return label not in (IGNORE, name) and place < low
    return bool(unreliable) and low <= place < high


def cosine(one, other):
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def contrastive_loss(anchors, positives, negatives, present, temperature):
    """anchors: class -> [(D,), ...]; positives: class -> (D,); negatives: class -> [[(D,), ...] of each anchor].

    Mean over all `present` classes, of which some have no anchors or no negatives.
    """
    total = 0.0
    for name in present:
        losses = []
        for anchor, against in zip(anchors.get(name, []), negatives.get(name, []), strict=False):
            scores = [cosine(anchor, positives[name]), *(cosine(anchor, row) for row in against)]
            losses.append(-math.log(softmax(np.array(scores) / temperature)[0]))
        total += sum(losses) / len(losses) if losses else 0.0
    return total / len(present) if present else 0.0
