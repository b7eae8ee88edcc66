"""The interval around a difference: against every resample there is, and how often it holds the truth."""

import itertools

import numpy as np
import pytest

from semiseg.evaluation.statistics import HELD, paired_interval, spread


def slow_miou(counts: np.ndarray) -> float:
    """From one confusion matrix, class by class."""
    found = []
    for c in range(len(counts)):
        shown = sum(counts[c][other] for other in range(len(counts)))
        named = sum(counts[other][c] for other in range(len(counts)))
        if shown > 0:
            found.append(counts[c][c] / (shown + named - counts[c][c]))
    return sum(found) / len(found)


def slow_difference(ours, theirs, images, seeds) -> float:
    """Over the images and seeds that were drawn, however often."""
    found = []
    for seed in seeds:
        sums = [sum(counts[seed, image] for image in images) for counts in (ours, theirs)]
        found.append(slow_miou(sums[0]) - slow_miou(sums[1]))
    return sum(found) / len(found)


def every_resample(ours, theirs) -> np.ndarray:
    """The difference of each resample of the images and of the seeds, all equally likely."""
    seeds, images = ours.shape[:2]
    return np.array([
        slow_difference(ours, theirs, drawn, chosen)
        for drawn in itertools.product(range(images), repeat=images)
        for chosen in itertools.product(range(seeds), repeat=seeds)
    ])  # fmt: skip


def some_counts(rng, seeds, images, classes=3, right=0.7) -> np.ndarray:
    """Confusion matrices of images of 200 pixels, of which a share is right."""
    truth = rng.dirichlet(np.ones(classes), size=images)  # (N, C)
    chance = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(chance, right)
    return rng.multinomial(200, (truth[:, :, None] * chance).reshape(images, -1), size=(seeds, images)).reshape(
        seeds, images, classes, classes
    )


@pytest.mark.parametrize(("seeds", "images"), [(1, 5), (2, 4), (3, 3)])
def test_the_interval_is_that_of_every_resample(seeds, images):
    rng = np.random.default_rng(seeds)
    ours, theirs = some_counts(rng, seeds, images, right=0.75), some_counts(rng, seeds, images)
    found = paired_interval(ours, theirs, draws=20_000)
    every = every_resample(ours, theirs)
    assert found.difference == pytest.approx(slow_difference(ours, theirs, range(images), range(seeds)))
    # a few hundred equally likely values: the sampled percentile may fall on a neighbour of the exact one
    assert np.percentile(every, 1.8) <= found.low <= np.percentile(every, 3.2)
    assert np.percentile(every, 96.8) <= found.high <= np.percentile(every, 98.2)


def test_equal_predictions_differ_by_exactly_nothing():
    counts = some_counts(np.random.default_rng(0), 3, 20)
    found = paired_interval(counts, counts.copy())
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.verdict == "no reliable difference"


def test_a_planted_gain_and_a_planted_loss_are_found():
    rng = np.random.default_rng(1)
    better, worse = some_counts(rng, 3, 60, right=0.75), some_counts(rng, 3, 60, right=0.7)
    found = paired_interval(better, worse)
    assert found.verdict == "helped"
    assert 0 < found.low < found.difference < found.high
    turned = paired_interval(worse, better)
    assert turned.verdict == "hurt"
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))


def test_pairing_sees_what_two_separate_intervals_would_not():
    """Images differ far more than methods do: ours is right on ten more of each image's 200 pixels."""
    rng = np.random.default_rng(2)
    rights = rng.uniform(60, 180, size=50).astype(int)

    def counts(right: np.ndarray) -> np.ndarray:
        half = np.stack([right // 2, 100 - right // 2, 100 - right // 2, right // 2], 1)
        return half.reshape(1, -1, 2, 2)

    ours, theirs = counts(rights + 10), counts(rights)
    assert paired_interval(ours, theirs).verdict == "helped"
    shuffled = theirs[:, rng.permutation(50)]
    assert paired_interval(ours, shuffled).verdict == "no reliable difference"


def test_draws_follow_from_the_seed_and_scale_changes_nothing():
    rng = np.random.default_rng(3)
    ours, theirs = some_counts(rng, 2, 30), some_counts(rng, 2, 30)
    first = paired_interval(ours, theirs, draws=999)
    assert paired_interval(ours, theirs, draws=999) == first
    assert paired_interval(ours, theirs, draws=999, seed=1) != first
    larger = paired_interval(7 * ours, 7 * theirs, draws=999)
    assert (larger.low, larger.high) == pytest.approx((first.low, first.high))


def test_a_class_that_is_absent_does_not_count():
    rng = np.random.default_rng(4)
    ours, theirs = some_counts(rng, 1, 10), some_counts(rng, 1, 10)
    padded = [np.pad(counts, ((0, 0), (0, 0), (0, 2), (0, 2))) for counts in (ours, theirs)]
    assert paired_interval(*padded, draws=500) == paired_interval(ours, theirs, draws=500)


@pytest.mark.parametrize(("seeds", "spread_of_seeds"), [(1, 0.0), (10, 0.004)])
def test_it_holds_the_truth_about_as_often_as_it_says(seeds, spread_of_seeds):
    """Images of a population, runs whose share of right pixels varies with the seed; the truth by a large sample."""
    rng = np.random.default_rng(5)

    def sample(images: int, count: int) -> list[np.ndarray]:
        truth = rng.beta(2, 2, size=images)  # share of class 1 in each image
        hard = rng.uniform(-0.15, 0.15, size=images)
        found = []
        for right in (0.80, 0.78):
            shares = np.clip(right + hard + rng.normal(0, spread_of_seeds, size=(count, 1)), 0, 1)  # (S, N)
            cells = [(1 - truth) * shares, (1 - truth) * (1 - shares), truth * (1 - shares), truth * shares]
            found.append(rng.multinomial(300, np.stack(cells, -1)).reshape(count, images, 2, 2))
        return found

    ours, theirs = sample(1000, 100)
    true = np.mean([slow_miou(a.sum(0)) - slow_miou(b.sum(0)) for a, b in zip(ours, theirs, strict=True)])
    intervals = [paired_interval(*sample(40, seeds), draws=400, seed=trial) for trial in range(200)]
    held = np.mean([each.low <= true <= each.high for each in intervals])
    assert 0.90 <= held <= 0.985


@pytest.mark.parametrize("seeds", HELD)
def test_of_few_seeds_it_holds_the_truth_as_rarely_as_is_said(seeds):
    """The mean over seeds drawn with replacement, as the interval has it where all images are alike."""
    rng = np.random.default_rng(6)
    trials, draws = 1500, 400
    differences = rng.normal(size=(trials, seeds))
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=(trials, draws)) / seeds
    low, high = np.percentile(np.einsum("tds,ts->td", weights, differences), [2.5, 97.5], axis=1)
    assert 100 * np.mean((low <= 0) & (high >= 0)) == pytest.approx(HELD[seeds], abs=4)


def test_what_cannot_be_compared():
    counts = np.ones((2, 3, 2, 2), dtype=np.int64)
    for ours, theirs in ((counts, counts[:1]), (counts[0], counts[0]), (counts[:, :0], counts[:, :0])):
        with pytest.raises(ValueError, match="expected two of one shape"):
            paired_interval(ours, theirs)


def test_the_deviation_over_seeds_is_that_of_a_sample():
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(np.sqrt(7 / 3))
    assert spread([1.0]) is None
