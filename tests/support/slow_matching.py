"""FixMatch's family in loops over pixels: what the tests of its methods hold the code against."""

import math

import numpy as np
from torch import Tensor


def probabilities(logits: np.ndarray) -> np.ndarray:
    """(C,) logits -> (C,)."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def labels_of(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (B, C, H, W) -> label (B, H, W), confidence (B, H, W) in half precision, as pseudo-labels are kept."""
    label = np.zeros(logits[:, 0].shape, int)
    confidence = np.zeros(label.shape, np.float16)
    for b, y, x in np.ndindex(*label.shape):
        found = probabilities(logits[b, :, y, x])
        label[b, y, x], confidence[b, y, x] = found.argmax(), found.max()
    return label, confidence


def matched(
    logits: np.ndarray,
    label: np.ndarray,
    confidence: np.ndarray,
    valid: Tensor,
    threshold: float,
    boxes: Tensor | None = None,
    soft: np.ndarray | None = None,
) -> float:
    """H(logits), with what images are to match mixed by `boxes`; with `soft` (B, C, H, W) the divergence from that.

    The soft targets are not mixed here.
    """
    total, count = 0.0, 0
    for b, y, x in np.ndindex(*label.shape):
        source = (b + 1) % len(label) if boxes is not None and boxes[b, y, x] else b
        if not valid[source, y, x]:
            continue
        count += 1
        if confidence[source, y, x] < np.float16(threshold):
            continue
        p = probabilities(logits[b, :, y, x])
        if soft is None:
            total -= math.log(p[label[source, y, x]])
        else:
            total += sum(q * math.log(q / p[c]) for c, q in enumerate(soft[b, :, y, x]))
    return total / count


def pasted(maps: Tensor, boxes: Tensor) -> Tensor:
    """Pixel by pixel the next image's inside its box. maps (B, X, H, W), boxes (B, H, W)"""
    found = maps.clone()
    for b, y, x in boxes.nonzero().tolist():
        found[b, :, y, x] = maps[(b + 1) % len(maps), :, y, x]
    return found


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> (H, W), bilinear with corners aligned."""
    height, width = maps.shape
    found = np.zeros(size)
    for y, x in np.ndindex(*size):
        row = y * (height - 1) / (size[0] - 1)
        column = x * (width - 1) / (size[1] - 1)
        top, left = min(int(row), height - 2), min(int(column), width - 2)
        down, right = row - top, column - left
        upper = (1 - right) * maps[top, left] + right * maps[top, left + 1]
        lower = (1 - right) * maps[top + 1, left] + right * maps[top + 1, left + 1]
        found[y, x] = (1 - down) * upper + down * lower
    return found


def row_of_correlation(giving: np.ndarray, taking: np.ndarray, place: int) -> np.ndarray:
    """Row `place` of A. giving and taking (C, N) -> (N,)"""
    scores = [giving[:, place] @ taking[:, other] / math.sqrt(len(giving)) for other in range(taking.shape[1])]
    return probabilities(np.array(scores))


def spread(label: np.ndarray, certain: np.ndarray, regions: np.ndarray, threshold: float) -> tuple:
    """Labels (H, W) after regions (n, H, W), one after the other, gave theirs; and where they did."""
    found, given = label.copy(), np.zeros(label.shape, bool)
    for region in regions:
        members = list(zip(*np.nonzero(region), strict=True))
        sure = [int(label[place]) for place in members if certain[place]]
        if not sure or len(sure) / len(members) < threshold:
            continue
        most = max(sorted(set(sure)), key=sure.count)
        if sure.count(most) / len(sure) > threshold:
            for place in members:
                found[place], given[place] = most, True
    return found, given
