"""Methods and prototypes without a trainer, a config or a run folder: as in a training loop of one's own."""

import numpy as np
import pytest
import torch
from support.tiny import batches, clock, one_by_one, optimizer_of, segmentor, train_step
from torch import nn

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.methods import METHODS, Method, UniMatch
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.prototype import Prototype
from semiseg.parts.partners import WantsImages
from semiseg.parts.prototypes import Prototypes
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import IGNORE

PAIRS = ("cps", "gct")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_made_from_a_network_and_learns(name):
    keywords = {"another": lambda: segmentor(seed=1)} if name in PAIRS else {}
    keywords |= {"warmup": 0.0} if name != "supervised" else {}
    if name == "ael":
        keywords |= {"num_unlabeled": 3, "batch_unlabeled": 3}
    method = METHODS[name](segmentor(), **keywords).train()
    assert method.options == METHOD_OPTIONS[name](**{key: keywords[key] for key in keywords if key == "warmup"})
    labeled, unlabeled = batches()
    method.prepare(one_by_one(labeled), clock())
    if isinstance(method, WantsImages):
        unlabeled = unlabeled._replace(partner=unlabeled)
    before = [parameter.detach().clone() for parameter in method.student.parameters()]
    result = train_step(method, optimizer_of(method), (labeled, unlabeled), clock(0))
    assert result.loss.isfinite()
    assert any(not old.equal(new) for old, new in zip(before, method.student.parameters(), strict=True))


def test_options_and_facts_of_the_experiment_are_keywords():
    method = FixMatch(segmentor(), threshold=0.7, total_steps=10, warmup=0.3, prototypes=PrototypesOptions(per_class=2))
    assert (method.threshold, method.warmup_steps, method.prepare_at) == (0.7, 3, 3)
    assert method.prototypes.predictor.prototypes.shape == (3, 2, 11)
    assert method.context.classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixMatch(segmentor(), treshold=0.9), r"FixMatch has no option 'treshold'; did you mean threshold\?"),
        (lambda: FixMatch(segmentor(), zzz=1), r"has no option 'zzz'; it has .*warmup"),
        (lambda: UniMatch(nn.Conv2d(3, 2, 1)), r"got a Conv2d as its network; .* semiseg\.wrap\(module"),
        (lambda: Prototype(segmentor()), r"warmup of 0\.0125 of all steps: give total_steps=N, or warmup=0"),
        (lambda: FixMatch(segmentor(), threshold=1.5), r"method\.threshold is 1\.5"),
        (lambda: FixMatch(segmentor(), prototypes=True), r"prototypes is True; expected .*PrototypesOptions"),
        (lambda: METHODS["cps"](segmentor()), r"CPS trains two networks: give another="),
        (lambda: Prototypes(3, 4, per_class=0), r"prototypes\.per_class is 0; expected 1 <= per_class"),
    ],
)
def test_a_wrong_keyword_or_network_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_head_of_prototypes_in_a_loop_of_ones_own():
    """`start` finds two looks of each class, `losses` fall, `follow` moves the prototypes as Eq. 11 says."""
    head = Prototypes(classes=3, channels=11, per_class=2, momentum=0.9, grid=None)
    network, generator = segmentor(), torch.Generator().manual_seed(0)
    labeled, unlabeled = batches()
    network.eval()
    with torch.no_grad():
        head.start(((network(one.image).features, one.label) for one in one_by_one(labeled)), generator)
    network.train()
    assert head.predictor.ready.all()
    before = head.predictor.prototypes.clone()
    output = network(torch.cat([labeled.image, unlabeled.image]))
    pseudo = pseudo_label(output.logits[len(labeled.image) :].detach(), unlabeled.valid)
    on_labeled, on_pseudo = head.losses(
        output.features, labeled.label, pseudo=pseudo, kept=pseudo.kept(0.5), generator=generator
    )
    (on_labeled + on_pseudo).backward()
    assert all(parameter.grad is not None for parameter in network.encoder.parameters())
    sums, counts = head.sums.clone(), head.counts.clone()
    assert int(counts.sum()) == int((labeled.label != IGNORE).sum() + pseudo.kept(0.5).sum())
    head.follow()
    assert not head.counts.any()
    for number, k in np.ndindex(3, 2):
        mean = sums[number, k] / counts[number, k].clamp(min=1)
        expected = 0.9 * before[number, k] + 0.1 * mean if counts[number, k] else before[number, k]
        torch.testing.assert_close(head.predictor.prototypes[number, k], expected)
    figures, warnings = head.health(("a", "b", "c"))
    assert np.array(figures["prototype_usage"]).shape == (3, 2)
    assert warnings == []


def test_batches_of_any_size_start_the_same_prototypes():
    labeled, _ = batches(labeled=4)
    with torch.no_grad():
        features = segmentor().eval()(labeled.image).features
    heads = [Prototypes(3, 11, per_class=2) for _ in range(2)]
    heads[0].start([(features, labeled.label)], torch.Generator().manual_seed(1))
    pairs = zip(features.split(1), labeled.label.split(1), strict=True)
    heads[1].start(pairs, torch.Generator().manual_seed(1))
    assert heads[0].predictor.prototypes.equal(heads[1].predictor.prototypes)


def test_a_method_that_is_added_brings_its_options():
    class Mine(FixMatch):
        """FixMatch under another name."""

    METHODS["mine"] = Mine
    try:
        assert METHOD_OPTIONS["mine"] is FixMatch.Options
    finally:
        del METHODS["mine"]
    assert "mine" not in METHOD_OPTIONS


@pytest.mark.parametrize("options", [None, object(), dict, SupervisedOptions])
def test_a_method_without_options_of_its_own_is_refused_where_it_is_added(options):
    class Mine(Method):
        """With options that are missing, no class, no dataclass, or not those of a method with unlabelled images."""

        if options is not None:
            Options = options

    with pytest.raises(ValueError, match=r"'mine' needs a class attribute Options: a frozen dataclass"):
        METHODS["mine"] = Mine
    assert "mine" not in METHODS
    assert "mine" not in METHOD_OPTIONS
