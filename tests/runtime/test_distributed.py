"""Two and four processes do what one does with the whole batch."""

from pathlib import Path

import pytest
import torch
from support import ranks
from support.drawn_pictures import Pictures, predictor
from support.ranks import SCENARIOS, in_ranks
from timm.layers import BatchNormAct2d

from semiseg import networks
from semiseg.runtime import distributed
from semiseg.runtime.distributed import own_slots

THRESHOLDLESS = ("supervised", "mean_teacher", "pseudoseg", "cct", "gct", "cps", "pc2seg")
"""Methods that learn from all pixels."""

counts = pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
scenarios = pytest.mark.parametrize("name", SCENARIOS)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """Every scenario in this process."""
    return ranks.train_all(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def together(request, tmp_path_factory) -> list[dict]:
    """Every scenario in two, and in four processes."""
    folder = tmp_path_factory.mktemp("together")
    found = in_ranks(request.param, folder / "group", ranks.train_all, folder)
    assert None not in found, [file.read_text() for file in folder.glob("group/*.txt")]
    return found


@scenarios
def test_losses_and_statistics_are_those_of_one_process(alone, together, name):
    expected, found = alone[name]["trace"], together[0][name]["trace"]
    assert [entry["step"] for entry in found] == list(range(1, ranks.STEPS + 1))
    rounding = 1e-5 if SCENARIOS[name].method == "cct" else 1e-6  # VAT stretches a gradient to a length, roundings too
    assert found == [pytest.approx(entry, abs=1e-6, rel=rounding) for entry in expected]


@scenarios
def test_weights_teacher_and_prototypes_are_those_of_one_process(alone, together, name):
    expected, found = alone[name]["state"], together[0][name]["state"]
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


@scenarios
def test_the_pull_of_each_loss_is_that_of_one_process(alone, together, name):
    """All ranks take each loss apart, also where only some of them have a pixel of it: none waits for another."""
    expected, found = alone[name]["pulls"], together[0][name]["pulls"]
    assert found
    assert set(found) <= set(expected)
    for loss, norms in found.items():
        assert norms == pytest.approx(expected[loss], rel=1e-3, abs=1e-5)


@scenarios
def test_processes_differ_in_nothing(together, name):
    first, *others = (found[name]["state"] for found in together)
    for other in others:
        assert [key for key in first if not torch.equal(first[key], other[key])] == []


@scenarios
def test_the_first_alone_writes(together, name):
    """`together` reads the record right after the training: the others would have written it anew, or twice."""
    assert [entry["step"] for entry in together[0][name]["trace"]] == list(range(1, ranks.STEPS + 1))


def test_the_scenarios_do_what_can_go_wrong(alone):
    """Pseudo-labels teach, but not all of them: else the above prove little."""
    for name, found in alone.items():
        kept = [entry["kept"] for entry in found["trace"] if "kept" in entry]
        assert SCENARIOS[name].method in THRESHOLDLESS or 0 < min(kept) <= max(kept) < 1, (name, kept)
        names = ("consistency", "unlabeled", "prototype_unlabeled", "strong")
        # Of two networks, one that is the less flawed everywhere has nothing to follow: what both learn counts.
        teaching = [sum(entry[key] for key in entry if key.startswith(names)) for entry in found["trace"][3:]]
        # GCT's detector has maps of one pixel here, so its networks have nothing to follow; on larger images a pixel
        # at which both are nearly alike follows the one or the other by rounding, and the traces part.
        assert SCENARIOS[name].method in ("supervised", "gct") or min(teaching) > 1e-3, name


# BatchNorm ------------------------------------------------------------------------------------------------------------


def test_statistics_on_the_cpu_are_the_mean_of_the_processes(tmp_path):
    found = in_ranks(2, tmp_path / "group", statistics)
    assert None not in found, [file.read_text() for file in tmp_path.glob("group/*.txt")]
    (own, shared), (other, also_shared) = found
    for key in own:
        assert not torch.equal(own[key], other[key])
        torch.testing.assert_close(shared[key], (own[key] + other[key]) / 2)
        assert torch.equal(shared[key], also_shared[key])


def statistics() -> tuple[dict, dict]:
    """Before and after they are averaged."""
    method = ranks.method_of(SCENARIOS["supervised"], batch_norm=True).train()
    method.student(next(ranks.own_batches(0, 1))[0].image)
    own = {name: buffer.clone() for name, buffer in method.named_buffers() if "running" in name}
    distributed.average_statistics(method)
    return own, {name: buffer.clone() for name, buffer in method.named_buffers() if "running" in name}


# Scores ---------------------------------------------------------------------------------------------------------------


@counts
@pytest.mark.parametrize("limit", [None, 1])
def test_scores_are_those_of_one_process(tmp_path, count, limit):
    """Five images for two or four processes; or one, so that some have none."""
    model = predictor()
    expected_scores, expected_matrices = ranks.evaluate(Pictures(), model, limit)
    headline, expected_bins = expected_scores.pop("headline"), expected_scores.pop("calibration")
    found = in_ranks(count, tmp_path / "group", ranks.evaluate, Pictures(), model, limit)
    for scores, matrices in found:
        # an absent class has no IoU; and processes may round a confidence differently
        assert scores.pop("headline") == headline
        bins = scores.pop("calibration")
        assert bins["pixels"] == expected_bins["pixels"]
        assert bins["right"] == expected_bins["right"]
        assert bins["confidence"] == pytest.approx(expected_bins["confidence"], rel=1e-6, nan_ok=True)
        assert flat(scores) == pytest.approx(flat(expected_scores), rel=1e-6, abs=0, nan_ok=True)
        assert repr(matrices) == repr(expected_matrices)


def flat(scores: dict, prefix: str = "") -> dict[str, object]:
    """Nested scores as one mapping of dotted names to numbers."""
    found = {}
    for name, value in scores.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return found


# Shares ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "parts", "count"), [(8, 1, 2), (8, 2, 2), (8, 2, 4), (12, 3, 2), (4, 1, 1)])
def test_every_slot_belongs_to_one_process_and_parts_stay_together(monkeypatch, size, parts, count):
    owner = {}
    for number in range(count):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        monkeypatch.setattr(distributed, "world_size", lambda: count)
        slots = own_slots(size, parts)
        per_part = size // parts // count
        for place, slot in enumerate(slots):
            assert slot not in owner
            owner[slot] = number
            assert slot * parts // size == place // per_part, "in the micro-batch that one process has it in"
        assert slots == sorted(slots)
    assert len(owner) == size


def test_the_picture_of_the_slots(monkeypatch):
    lines = [line.split()[-9:] for line in (distributed.__doc__ or "").splitlines() if line.startswith("    process")]
    owners = [int(word) for word in lines[0] if word.isdigit()]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for number in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        assert own_slots(8, 2) == [slot for slot, owner in enumerate(owners) if owner == number]


# GPUs, as far as a machine without one can tell -----------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine of two GPUs, and the place of a process on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def process(number: int, of: int) -> None:
        for name, value in {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": of}.items():
            monkeypatch.setenv(name, str(value))

    return process


def test_every_process_has_its_own_gpu(two_gpus):
    assert distributed.pick_device("cuda:1") == torch.device("cuda:1")
    for number in (0, 1):
        two_gpus(number, 2)
        for name in ("auto", "cuda"):
            assert distributed.pick_device(name) == torch.device("cuda", number)
        assert distributed.pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"cuda:1, one GPU for several processes; use --train\.device auto"):
        distributed.pick_device("cuda:1")
    two_gpus(2, 3)
    with pytest.raises(
        ValueError, match=r"process 3 on this machine finds no GPU for itself, for torch sees 2: start 2"
    ):
        distributed.pick_device("auto")


def test_batch_norm_is_shared_on_gpus_and_keeps_weights_names_and_activations(monkeypatch):
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), BatchNormAct2d(3), torch.nn.GroupNorm(1, 3))
    parameters, names = list(module.parameters()), list(module.state_dict())
    assert networks.with_shared_statistics(module, torch.device("cuda")) is module
    assert not any(isinstance(layer, torch.nn.SyncBatchNorm) for layer in module), "one process needs none"
    monkeypatch.setattr(networks, "world_size", lambda: 2)
    assert not any(
        isinstance(layer, torch.nn.SyncBatchNorm)
        for layer in networks.with_shared_statistics(module, torch.device("cpu"))
    )
    shared = networks.with_shared_statistics(module, torch.device("cuda"))
    assert shared is module
    assert [isinstance(layer, torch.nn.SyncBatchNorm) for layer in module] == [True, True, False]
    assert all(one is other for one, other in zip(module.parameters(), parameters, strict=True))
    assert list(module.state_dict()) == names
    image = torch.randn(2, 3, 4, 4)
    assert (module.eval()[1](image) >= 0).all(), "the activation inside of timm's layer"


def test_alone_everything_is_the_identity(tmp_path: Path):
    tensor = torch.randn(3, 2)
    for same in (distributed.sum_over_ranks_, distributed.mean_over_ranks, distributed.joined, distributed.own_rows):
        assert torch.equal(same(tensor.clone()), tensor)
    assert torch.equal(distributed.rolled(tensor), tensor[[1, 2, 0]])
    assert distributed.gathered("x") == ["x"]
    module = torch.nn.Linear(1, 1)
    assert distributed.replicated(module) is module
