"""What a step costs, held against arithmetic and against steps that were run."""

from functools import cache

import pytest
import torch
from support.benches import step_bench
from torch import nn

from semiseg.config.recipe import load_config
from semiseg.costs.estimate import Traffic, count_step, estimate
from semiseg.costs.speed import PUBLISHED, Cost, Speed, measured_speed, published_speed
from semiseg.methods import METHODS
from semiseg.runtime.timing import peak_bytes


def config(method="prototype", **options):
    return load_config("voc-classic", {"data.root": ".", "method": method, **options})


@cache
def papers_cost() -> Cost:
    """Of a step as the recipe has it; counting takes seconds."""
    return count_step(config())


def test_the_papers_step_takes_66_tera_operations():
    """0.59 TFLOP per image and forward pass, three of them for each of 32 images, one for each of 16 of the teacher."""
    assert papers_cost().flops == pytest.approx((3 * 32 + 16) * 0.590e12, rel=0.01)


def test_supervised_only_takes_the_labelled_part():
    assert count_step(config("supervised")).flops == pytest.approx(3 * 16 * 0.590e12, rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_counted(method):
    small = {"augment.crop_height": 64, "augment.crop_width": 64, "train.precision": "fp32"}
    labeled, whole = (count_step(load_config("demo", {"method": name, **small}), 3) for name in ("supervised", method))
    assert whole.flops >= labeled.flops > 0
    assert whole.memory >= labeled.memory > 0


def test_half_the_batch_twice_is_the_same_work_in_half_the_memory():
    whole, parts = papers_cost(), count_step(config(**{"train.accumulate": 2}))
    assert parts.flops == whole.flops
    assert parts.memory < 0.6 * whole.memory


def test_each_of_several_devices_has_its_share():
    share, whole = config(**{"train.devices": 4}), config(**{"train.batch_labeled": 4, "train.batch_unlabeled": 4})
    assert count_step(share) == count_step(whole)
    assert estimate(share, "h100")["devices"] == 4


def test_bf16_stores_less_than_fp32():
    assert papers_cost().memory < 0.7 * count_step(config(**{"train.precision": "fp32"})).memory


def test_blocks_that_are_computed_again_cost_a_third_more_for_less_than_half_the_memory():
    """All of the student's 32 images but the stem pass a second time."""
    whole, checkpointed = papers_cost(), count_step(config(**{"network.checkpoint": True}))
    assert checkpointed.memory < 0.45 * whole.memory
    assert whole.flops + 0.9 * 32 * 0.590e12 < checkpointed.flops < whole.flops + 32 * 0.590e12


@pytest.mark.parametrize("checkpoint", [False, True])
def test_memory_is_that_of_a_step_that_is_run(tmp_path, checkpoint):
    bench = step_bench("prototype", tmp_path, **{"network.checkpoint": checkpoint})
    bench.step()
    measured = peak_bytes(bench.step, torch.device("cpu"))
    momentum = [state["momentum_buffer"] for state in bench.optimizer.state.values()]
    there = [*bench.method.parameters(), *bench.method.buffers(), *momentum]
    assert bench.held() == sum(tensor.numel() * tensor.element_size() for tensor in there)
    assert count_step(bench.config, 6).memory == pytest.approx(measured + bench.held(), rel=0.2)


def test_traffic_counts_what_elementwise_operations_read_and_write():
    with Traffic() as traffic:
        one = torch.zeros(10, 10, device="meta")
        two = one + one
    assert traffic.moved == 4 * 100 * (1 + 3)
    assert traffic.living == 4 * 200
    del one
    assert traffic.living == 4 * 100
    with traffic:
        two.view(100).mul_(2)
    assert traffic.moved == 4 * 100 * (1 + 3 + 2)
    assert traffic.peak == 4 * 200


def test_traffic_leaves_products_to_the_other_counter():
    layer, image = nn.Conv2d(3, 4, 3, device="meta"), torch.zeros(1, 3, 8, 8, device="meta")
    with Traffic() as traffic:
        layer(image)
    assert traffic.moved == 0
    assert traffic.flops == 2 * (3 * 3 * 3) * 4 * 6 * 6


def test_traffic_does_not_count_what_was_there():
    weight = torch.zeros(10, 10, device="meta")
    with Traffic(weight) as traffic:
        view = weight.detach()
        other = view + 1
    assert traffic.living == other.numel() * 4


def test_time_adds_products_and_traffic():
    assert Speed(100.0, 10.0, "").seconds(Cost(50, 20, 0)) == 2.5


def test_a_device_by_name_or_a_refusal():
    assert published_speed("h100", "bf16").flops == 0.4 * PUBLISHED["h100"][1]
    assert published_speed("h100", "fp32").flops == 0.4 * PUBLISHED["h100"][0]
    with pytest.raises(ValueError, match="no figures for device 'h1000'; there are h200, h100"):
        published_speed("h1000", "bf16")


def test_the_device_at_hand_is_measured(monkeypatch):
    called = []

    def seconds(calls, *_):
        for call in calls.values():
            called.append(call())
        return {"product": 2.0, "addition": 0.5}

    monkeypatch.setattr("semiseg.costs.speed.median_seconds", seconds)
    speed = measured_speed(torch.device("cpu"), "fp32")
    assert len(called) == 2
    # 8 maps of 64 channels and 40 x 40 pixels, 3 x 3 kernels, forward and twice that backward; three arrays of 2^23
    assert speed.flops == 3 * (2 * 9 * 64 * 64 * 40 * 40 * 8) / 2.0
    assert speed.bytes == 3 * 4 * 2**23 / 0.5


def test_hours_follow_from_steps():
    found = estimate(config(**{"train.steps": 3600}), "a100")
    assert found["hours"] == pytest.approx(found["seconds per step"])
    assert found["TFLOP per step"] == pytest.approx(66.1, abs=0.5)
