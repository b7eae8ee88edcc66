"""A step of U2PL as a whole against a slow twin, and what the method keeps."""

import copy
import math

import numpy as np
import pytest
import torch
from support import slow_contrast as slow
from support.tiny import batches, clock, segmentor, setting

from semiseg.config.methods import U2PLOptions
from semiseg.methods.u2pl import U2PL
from semiseg.parts.mixing import mix_batch
from semiseg.types import IGNORE

SMALL = {"queue_size": 60, "queue_size_first": 90, "anchors": 9, "negatives": 4, "channels": 5}
FEATURES = (5, 6)  # of an image of 9 x 11 pixels


def started(**options) -> U2PL:
    """Past warm-up, with a teacher unlike the student."""
    method = U2PL(segmentor(), U2PLOptions(**{"warmup": 0.0, **SMALL, **options}), setting())
    method.started.fill_(True)
    method.teacher.copy_from(segmentor(seed=1))
    with torch.no_grad():
        for parameter in method.teacher_projection.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return method.train()


def observed(method: U2PL, step: int) -> dict:
    """A step's losses and statistics, and what every network was shown and answered."""
    found: dict = {}
    parts = {
        "student": method.student,
        "teacher": method.teacher.segmentor,
        "projection": method.projection,
        "teacher_projection": method.teacher_projection,
    }
    for name, part in parts.items():
        calls = found[name] = []
        part.register_forward_hook(lambda _, given, answer, calls=calls: calls.append((given[0].detach(), answer)))
    result = method(*batches(), clock(step))
    return found | {"losses": {name: loss.item() for name, loss in result.losses.items()}, "stats": result.stats}


def rows_of(maps: torch.Tensor) -> np.ndarray:
    """(B, X, h, w) -> (N, X), pixel by pixel."""
    batch, _, height, width = maps.shape
    places = [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]
    return np.stack([maps[b, :, y, x].detach().double().numpy() for b, y, x in places])


@pytest.mark.parametrize("step", [0, 4])
@pytest.mark.parametrize("mix", ["cutmix", "cutout", "none"])
def test_a_step_is_its_algorithm(mix, step):
    """3 classes: with `low_rank` 1 unlabelled pixels are negatives too; the queues are empty before the step."""
    method = started(low_rank=1, mix=mix, mix_probability=1.0, unlabeled_weight=2.0, contrastive_weight=0.125)
    labeled, unlabeled = batches()
    found = observed(method, step)
    draws = clock(step).generator  # what the method drew from
    (weak, answers), (shown, judged) = found["teacher"]
    assert weak.equal(unlabeled.image)
    pseudo = method.label(unlabeled)
    assert pseudo.label.equal(answers.logits.argmax(1).byte())
    image, pseudo = mix_batch(mix, 1.0, unlabeled.image, pseudo, 3, draws)
    together = torch.cat([labeled.image, image])
    assert shown.equal(together)
    ((seen, output),) = found["student"]
    assert seen.equal(together)
    assert image.equal(unlabeled.image) == (mix == "none")

    # The partition, at full size.
    label, logits = pseudo.label.numpy(), judged.logits[2:].double().numpy()
    valid = [(b, y, x) for b, y, x in np.ndindex(*label.shape) if pseudo.valid[b, y, x] and label[b, y, x] != IGNORE]
    uncertain = {place: slow.entropy(logits[place[0], :, place[1], place[2]]) for place in valid}
    left = 0.2 * (1 - step / 10)
    taught_to, low, high = np.quantile(list(uncertain.values()), [1 - left, left, 1 - left])
    taught = [place for place in valid if uncertain[place] <= taught_to]
    student = output.logits.detach().double().numpy()
    unlabeled_losses = [-math.log(slow.softmax(student[2 + b, :, y, x])[label[b, y, x]]) for b, y, x in taught]
    true = labeled.label.numpy()
    supervised_losses = [
        -math.log(slow.softmax(student[b, :, y, x])[true[b, y, x]])
        for b, y, x in np.ndindex(*true.shape)
        if true[b, y, x] != IGNORE
    ]

    # The contrast: each feature's own pixel is every second one.
    z, taught_z = rows_of(found["projection"][0][1]), rows_of(found["teacher_projection"][0][1])
    pixels = []  # (class, softmax, reliable, unreliable, labelled)
    for b, y, x in np.ndindex(5, *FEATURES):
        softmax = slow.softmax(judged.logits[b, :, 2 * y, 2 * x].double().numpy())
        if b < 2:
            own = int(true[b, 2 * y, 2 * x])
            pixels.append((own, softmax, own != IGNORE, False, True))
        else:
            place = (b - 2, 2 * y, 2 * x)
            entropy = uncertain.get(place, math.nan)
            pixels.append((int(label[place]), softmax, entropy <= low, entropy >= high, False))
    queues, anchors, positives = {}, {}, {}
    for name in range(3):
        queues[name] = [
            taught_z[n]
            for n, (own, softmax, _, unreliable, is_labeled) in enumerate(pixels)
            if slow.is_negative(name, own, softmax, unreliable, is_labeled, 1, 20)
        ]
        anchors[name] = [
            z[n]
            for n, (own, softmax, reliable, _, _) in enumerate(pixels)
            if slow.is_anchor(name, own, softmax, reliable, 0.3)
        ]
        reliable_rows = [taught_z[n] for n, pixel in enumerate(pixels) if pixel[2] and pixel[0] == name]
        positives[name] = np.mean(reliable_rows, axis=0)
        assert 0 < len(queues[name]) <= 60
    torch.rand(3, generator=draws, dtype=torch.float64)  # starts of the even samples, which take everything here
    which, of_negatives = (
        torch.rand(3, *many, generator=draws, dtype=torch.float64).numpy() for many in ((9,), (9, 4))
    )
    drawn = {name: [anchors[name][int(draw * len(anchors[name]))] for draw in which[name]] for name in range(3)}
    against = {
        name: [[queues[name][int(draw * len(queues[name]))] for draw in of_anchor] for of_anchor in of_negatives[name]]
        for name in range(3)
    }
    contrastive = slow.contrastive_loss(drawn, positives, against, [0, 1, 2], 0.5)
    expected = {
        "supervised": np.mean(supervised_losses),
        "unlabeled": 2.0 * len(valid) / len(taught) * np.mean(unlabeled_losses),
        "contrastive": 0.125 * contrastive,
    }
    assert set(found["losses"]) == set(expected)
    if mix == "cutout":  # what is hidden is no pixel that could have been taught, but was one of the image
        whole = int(pseudo.valid.sum())
        expected["unlabeled"] *= whole / len(valid)
    assert found["losses"] == pytest.approx(expected, rel=1e-4)
    assert float(found["stats"]["kept"]) == pytest.approx(len(taught) / int(pseudo.valid.sum()))
    assert method.queues.written.tolist() == [len(queues[name]) for name in range(3)]


def test_the_partition_shrinks_with_time():
    shares = [float(observed(started(), step)["stats"]["kept"]) for step in (0, 5, 9)]
    assert shares == pytest.approx([0.8, 0.9, 0.98], abs=0.01)


def test_a_missing_class_keeps_out_and_the_others_keep_their_pairs():
    """Neither labelled nor predicted: class 1 has no anchors, no positive, and the classes behind it keep theirs."""
    method = started()
    for network in (method.teacher.segmentor, method.student):
        with torch.no_grad():
            network.decoder.classifier[1].bias[1] = -50.0
    labeled, unlabeled = batches()
    labeled = labeled._replace(label=torch.where(labeled.label == 1, 2, labeled.label))
    made = []
    original = method.contrast
    method.contrast = lambda *given: made.append((given, original(*given))) or made[-1][1]
    method(labeled, unlabeled, clock(1))
    ((pixels, rows, _), contrast) = made[0]
    assert contrast.usable.tolist() == [True, False, True]
    assert contrast.present == 2
    assert not contrast.here[1].any()
    for name in (0, 2):
        own = (pixels.label == name) & pixels.reliable
        torch.testing.assert_close(contrast.positive[name], rows[own].mean(0))
        assert (pixels.label[contrast.place[name]] == name).all()


def test_the_teachers_head_starts_as_the_students_and_follows_it():
    method = started(ema_decay=0.9)
    method.prepare([], clock(0))
    mine, theirs = method.teacher_projection, method.projection
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert one.equal(other)
        assert one is not other
        assert not one.requires_grad
    before = copy.deepcopy(mine)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1.0)
    method.after_step(clock(50))
    for old, new, other in zip(before.parameters(), mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * other)


def test_the_head_learns_as_the_networks_does():
    method = started()
    groups = method.parameter_groups()
    own = {id(parameter) for parameter in method.projection.parameters()}
    (role,) = [group["role"] for group in groups if own & {id(parameter) for parameter in group["params"]}]
    assert role == "head"


def test_queues_are_of_the_sizes_asked_for_and_saved_unless_not_wanted():
    method = started()
    assert method.queues.sizes == (90, 60, 60)
    assert "queues.rows" in method.state_dict()
    assert "queues.rows" not in started(save_queues=False).state_dict()
    defaults = U2PLOptions()
    assert (defaults.queue_size, defaults.queue_size_first, defaults.channels) == (30_000, 50_000, 256)
    assert defaults.contrastive_weight == 0.25


@pytest.mark.parametrize("mix", ["cutmix", "cutout", "classmix", "none"])
def test_only_some_mixes_need_a_partner(mix):
    assert U2PLOptions(mix=mix).needs_partner == (mix in ("cutmix", "classmix"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.2}, r"method\.drop is 1\.2; expected 0 <= drop <= 1"),
        ({"extremes": 0.6}, r"method\.extremes is 0\.6; expected 0 <= extremes <= 0\.5"),
        ({"low_rank": 5, "high_rank": 4}, r"method\.low_rank must lie between 0 and method\.high_rank"),
        ({"queue_size": 0}, r"method\.queue_size is 0; expected 1 <= queue_size"),
        ({"enqueue": 0}, r"method\.enqueue is 0; expected 1 <= enqueue <= 1,000,000,000, or none"),
        ({"temperature": 0.0}, r"method\.temperature is 0\.0; expected 0 < temperature"),
        ({"contrastive_weight": -1.0}, r"method\.contrastive_weight is -1\.0; expected 0 <= contrastive_weight"),
        ({"ema_decay": 1.0}, r"method\.ema_decay is 1\.0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        U2PLOptions(**options)
