"""From a wish to its batch: in time, for the right step, and each view a pure function of what was asked."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from support import tiny_trainer
from support.drawn_batches import AUGMENT, TRAIN, Plain, batches, dataset
from torch import Tensor

from semiseg.data.loading import PartnerLoader, Sample, ViewKey, Views
from semiseg.data.order import Stream
from semiseg.parts.partners import WantsImages
from semiseg.runtime import distributed
from semiseg.training.keeping import State
from semiseg.training.partners import Partners
from semiseg.types import UnlabeledBatch

CPU = torch.device("cpu")


def loader(broken: int | None = None, seed: int = 1, **train) -> PartnerLoader:
    data = replace(dataset(), unlabeled=Plain("unlabeled", 7, broken))
    return PartnerLoader(Views(data, AUGMENT, 255, seed), replace(TRAIN, **train), CPU)


def view(step: int, slot: int, position: int, seed: int = 1) -> Sample:
    return Views(dataset(), AUGMENT, 255, seed).sample(ViewKey(Stream.PARTNER_VIEW, step, slot, position))


# ---- the loader ----


def test_a_view_depends_on_seed_step_slot_and_position_alone():
    one, two = loader(), loader()
    first = one(3, [5, 2, 5])
    two(2, [1, 1, 1])  # what else was asked does not matter
    other, again = two(4, [5, 2, 5]), two(3, [5, 2, 5])
    found, same, later = first(), again(), other()
    assert found.index.tolist() == [5, 2, 5]
    for a, b in zip(found[:3], same[:3], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(found.valid, later.valid)
    assert not torch.equal(found.valid[0], found.valid[2])  # one image, two slots
    assert not torch.equal(loader(seed=2)(3, [5, 2, 5])().valid, found.valid)
    for slot, position in enumerate([5, 2, 5]):
        assert torch.equal(found.valid[slot], view(3, slot, position).valid)


def test_a_partner_is_another_view_than_the_batchs_own_of_the_same_image():
    step, own = next((step, own) for step, (_, own) in enumerate(batches(dataset())))
    found = loader()(step, own.index.tolist())()
    assert torch.equal(found.index, own.index)
    assert found.image.shape == own.image.shape
    assert not torch.equal(found.valid, own.valid)


def test_each_process_loads_its_own_slots(monkeypatch):
    positions, parts = [0, 1, 2, 3, 4, 5, 6, 0], []
    whole = loader(accumulate=2, batch_labeled=8, batch_unlabeled=8)(0, positions)()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for number in range(2):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        parts.append(loader(accumulate=2, batch_labeled=8, batch_unlabeled=8)(0, positions)())
    slots = [0, 1, 4, 5], [2, 3, 6, 7]
    for part, own in zip(parts, slots, strict=True):
        assert torch.equal(part.index, whole.index[own])
        assert torch.equal(part.image, whole.image[own])


def test_a_file_that_cannot_be_read_is_named():
    wait = loader(broken=4)(0, [1, 4, 2])
    with pytest.raises(ValueError, match=r"unlabeled4\.png cannot be read"):
        wait()


# ---- the way ----


class Wishing(tiny_trainer.Plain, WantsImages):
    """Decides after step t - 3 what it wants for step t: image 10 t + slot. The trainer has it from step 2 on."""

    begin = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.arange(3)[:, None] * 10 + torch.arange(4))
        self.asked: list[tuple[int, int]] = []  # step, steps done by then

    def after_step(self, clock) -> None:
        super().after_step(clock)
        step = clock.step + 3
        self.kept[step % 3] = 10 * step + torch.arange(4)

    def wanted(self, step: int) -> Tensor | None:
        self.asked.append((step, len([name for name, _ in self.calls if name == "after_step"])))
        return None if step < self.begin else self.kept[step % 3]


def request(made: list) -> Callable:
    """Remembers which steps were loaded when; an image is its position."""

    def ask(step: int, positions: list[int]) -> Callable[[], UnlabeledBatch]:
        made.append((step, positions))
        index = torch.tensor(positions)
        blank = torch.zeros(len(positions), 9, 11)
        return lambda: UnlabeledBatch(blank[:, None].expand(-1, 3, -1, -1), blank.bool(), index)

    return ask


def trainer_of(folder, method, state=None, **train):
    run = tiny_trainer.trainer(folder, method, state, **train)
    run.request = request(made := [])
    return run, made


def partners_seen(method) -> Iterator[list[int] | None]:
    for _, unlabeled in method.seen:
        yield None if unlabeled.partner is None else unlabeled.partner.index.tolist()


def test_every_step_gets_what_was_wished_for_it_and_loading_begins_a_step_before(tmp_path):
    method = Wishing()
    run, made = trainer_of(tmp_path, method)
    run.run()
    expected = [[10 * step + slot for slot in range(4)] for step in range(6)]
    assert list(partners_seen(method)) == expected
    assert made == list(enumerate(expected))
    assert method.asked == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3)]  # two steps before its use, once


def test_parts_of_a_step_get_their_parts(tmp_path):
    method = Wishing()
    run, _ = trainer_of(tmp_path, method, accumulate=2)
    run.run()
    assert list(partners_seen(method))[:4] == [[0, 1], [2, 3], [10, 11], [12, 13]]


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_resumed_run_asks_for_the_same(tmp_path, stop):
    run, _ = trainer_of(tmp_path, Wishing(), checkpoint_every=stop)
    whole = run.batches
    run.batches = lambda start: (batch for step, batch in zip(range(stop), whole(start)))  # noqa: B905
    with pytest.raises(StopIteration):
        run.run()
    again = tiny_trainer.resumed(tmp_path, method := Wishing())
    again.request = request(made := [])
    again.run()
    assert [step for step, _ in made] == list(range(stop, 6))
    assert list(partners_seen(method)) == [[10 * step + slot for slot in range(4)] for step in range(stop, 6)]


def test_while_a_method_wants_nothing_nothing_is_loaded(tmp_path):
    method = Wishing()
    method.begin = 4
    run, made = trainer_of(tmp_path, method)
    run.run()
    assert [step for step, _ in made] == [4, 5]
    assert list(partners_seen(method))[:4] == [None] * 4
    plain, made = trainer_of(tmp_path / "plain", tiny_trainer.Plain())
    plain.run()
    assert made == []


def test_what_was_wished_is_read_as_it_was_then():
    """The buffer's row goes on being written."""
    method = Wishing()
    way = Partners(method, request(made := []), 6)
    way.of(0)
    method.kept.fill_(-1)
    way.of(1)
    assert made[:3] == [(0, [0, 1, 2, 3]), (1, [10, 11, 12, 13]), (2, [20, 21, 22, 23])]


def test_a_state_in_the_middle_needs_no_steps_before_it(tmp_path):
    run, made = trainer_of(tmp_path, Wishing(), State(step=4))
    run.run()
    assert [step for step, _ in made] == [4, 5]
