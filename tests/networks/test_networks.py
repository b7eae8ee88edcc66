"""The segmentor's contract and the paper's decoder."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import stretch
from torch import nn
from torch.nn import functional as F

from semiseg.config.network import NAMES
from semiseg.config.options import NetworkOptions
from semiseg.networks import NETWORKS, build
from semiseg.networks.deeplabv3plus import DeepLabV3Plus
from semiseg.parts.segmentor import Segmentor


def small(**changes) -> NetworkOptions:
    """A network that a CPU runs in milliseconds."""
    plain = {"encoder": "resnet10t", "weights": "none", "output_stride": 16, "channels": 8, "aspp_rates": (1, 2, 3)}
    return NetworkOptions(**{**plain, **changes})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    torch.manual_seed(0)
    return randomize(build(small(), num_classes=3))


def randomize(module: Segmentor) -> Segmentor:
    """Give BatchNorm something to do: scales, shifts and statistics that are not 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module


# ---- the paper's sizes ----


@pytest.mark.parametrize(("classes", "decoder", "total"), [(21, 19_999_253, 62_623_189), (19, 19_998_739, 62_622_675)])
def test_the_default_network_has_the_papers_parameter_counts(classes, decoder, total):
    with torch.device("meta"):
        network = build(NetworkOptions(weights="none"), classes)
    assert count(network.encoder) == 42_623_936
    assert count(network.decoder) == decoder
    assert count(network) == total
    assert network.aux_head is None


def test_the_auxiliary_head_has_the_papers_parameter_count():
    with torch.device("meta"):
        network = build(NetworkOptions(weights="none", aux=True), 19)
    assert count(network.aux_head) == 2_364_947


@pytest.mark.parametrize(("side", "low", "deep"), [(513, 129, 65), (769, 193, 97), (500, 126, 63)])
def test_the_papers_feature_maps(side, low, deep):
    # 500 tells the rounding of the max-pool: 125 if it rounded down.
    with torch.device("meta"):
        network = build(NetworkOptions(weights="none"), 21)
        pyramid = network.encode(torch.empty(2, 3, side, side))
        output = network.decode(pyramid, (side, side))
    expected = [(256, low, low), (512, deep, deep), (1024, deep, deep), (2048, deep, deep)]
    assert [tuple(each.shape[1:]) for each in pyramid] == expected
    assert output.features.shape == (2, 512, low, low)
    assert output.logits.shape == (2, 21, side, side)


# ---- the contract ----


ENCODERS = {"deeplabv3plus": "resnet10t", "dpt": "test_vit"}


def test_the_registry_has_the_names_that_the_option_takes():
    assert list(NETWORKS) == NAMES


@pytest.mark.parametrize("name", NETWORKS)
@given(height=st.integers(33, 300), width=st.integers(33, 300), aux=st.booleans())
@settings(max_examples=8, deadline=None)
def test_any_size_comes_back_at_its_own_size(name, height, width, aux):
    with torch.device("meta"):
        network = build(small(name=name, encoder=ENCODERS.get(name, "resnet18"), aux=aux), num_classes=5)
        output = network(torch.empty(2, 3, height, width))
    assert output.logits.shape == (2, 5, height, width)
    assert output.features.shape[:2] == (2, network.feature_channels)
    assert (output.aux is not None) == aux
    assert output.aux is None or output.aux.shape == (2, 5, height, width)


def test_attributes_of_the_contract(segmentor):
    assert segmentor.num_classes == 3
    assert segmentor.feature_channels == 16


def test_forward_is_encode_then_decode_at_the_size_asked(segmentor):
    segmentor.eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        whole = segmentor(image)
        parts = segmentor.decode(segmentor.encode(image), (65, 97))
        double = segmentor.decode(segmentor.encode(image), (129, 193))
    assert torch.equal(whole.logits, parts.logits)
    assert torch.equal(whole.features, parts.features)
    # Corners aligned: every second pixel of the map with 2n-1 pixels is a pixel of the map with n.
    torch.testing.assert_close(double.logits[..., ::2, ::2], whole.logits, atol=1e-4, rtol=1e-4)


def test_parameter_groups_partition_the_parameters():
    network = build(small(aux=True), num_classes=3)
    encoder, head = network.encoder_parameters(), network.head_parameters()
    assert len(encoder) + len(head) == len(list(network.parameters()))
    assert {id(each) for each in encoder + head} == {id(each) for each in network.parameters()}
    assert {id(each) for each in encoder} == {id(each) for each in network.encoder.parameters()}


def test_the_auxiliary_head_speaks_in_training_only():
    network = build(small(aux=True), num_classes=3)
    image = torch.randn(2, 3, 65, 65)
    assert network.train()(image).aux is not None
    assert network.eval()(image).aux is None


def test_the_auxiliary_head_reads_the_map_before_the_deepest():
    network = build(small(aux=True), num_classes=3)
    network.train()(torch.randn(2, 3, 65, 65)).aux.sum().backward()
    moved = {name.split(".")[1] for name, each in network.named_parameters() if each.grad is not None}
    assert "layer3" in moved
    assert "layer4" not in moved


def test_every_parameter_learns():
    network = build(small(aux=True), num_classes=3).train()
    output = network(torch.randn(2, 3, 65, 65))
    (output.logits.square().mean() + output.aux.square().mean()).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_an_image_is_judged_alone(segmentor):
    segmentor.eval()
    images = torch.randn(3, 3, 65, 65)
    with torch.no_grad():
        torch.testing.assert_close(segmentor(images).logits[1:2], segmentor(images[1:2]).logits, atol=1e-4, rtol=1e-4)


def test_a_single_image_in_training_is_refused_with_the_repair():
    network = build(small(), num_classes=3).train()
    with pytest.raises(ValueError, match=r"batch of 1 image.*at least 2.*train\.batch_labeled.*train\.accumulate"):
        network(torch.randn(1, 3, 65, 65))


def test_a_single_image_is_enough_where_batchnorm_is_synchronised():
    pooling = nn.SyncBatchNorm.convert_sync_batchnorm(build(small(), num_classes=3)).decoder.aspp.branches[0].train()
    with pytest.raises((ValueError, RuntimeError)) as caught:  # torch's own complaint: no process group on this machine
        pooling(torch.randn(1, 512, 5, 5))
    assert "batch of 1" not in str(caught.value)


def test_logits_are_float32_under_autocast():
    network = build(small(aux=True), num_classes=3).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(torch.randn(2, 3, 65, 65))
    assert output.logits.dtype == output.aux.dtype == torch.float32


def test_dropout_has_the_rate_asked_and_sits_where_the_paper_has_it():
    with torch.device("meta"):
        network = build(small(dropout=0.25, aux=True), num_classes=3)
    rates = [(name, each.p) for name, each in network.named_modules() if isinstance(each, nn.Dropout2d)]
    names = ["decoder.head.3", "decoder.classifier.3", "decoder.classifier.7", "aux_head.3"]
    assert rates == [(name, 0.25) for name in names]


# ---- the decoder against a twin of plain formulas ----


class Twin:
    """DeepLabv3+ in eval mode, from a state dict by the formulas of its description."""

    def __init__(self, decoder: DeepLabV3Plus) -> None:
        self.tensors = {name: each.double() for name, each in decoder.state_dict().items()}

    def conv(self, maps, name, dilation=1):
        weight = self.tensors[f"{name}.weight"]
        padding = dilation if weight.shape[-1] == 3 else 0
        return F.conv2d(maps, weight, self.tensors.get(f"{name}.bias"), padding=padding, dilation=dilation)

    def block(self, maps, prefix, first=0, dilation=1):
        maps = self.conv(maps, f"{prefix}.{first}", dilation)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (self.tensors[f"{prefix}.{first + 1}.{name}"][:, None, None] for name in names)
        return ((maps - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    def __call__(self, low, deep, rates, size):
        pooled = self.block(deep.mean((2, 3), keepdim=True), "aspp.branches.0.layers", first=1).expand(
            -1, -1, *deep.shape[-2:]
        )
        views = [self.block(deep, f"aspp.branches.{i + 2}", dilation=rate) for i, rate in enumerate(rates)]
        aspp = self.block(torch.cat([pooled, self.block(deep, "aspp.branches.1"), *views], 1), "head")
        low = self.block(low, "low_conv")
        features = torch.cat([low, stretch(aspp, low.shape[-2:])], 1)
        hidden = self.block(self.block(features, "classifier"), "classifier", first=4)
        return stretch(self.conv(hidden, "classifier.8"), size), features


def test_the_decoder_equals_its_formulas(segmentor):
    segmentor.eval()
    image = torch.randn(2, 3, 129, 173)
    with torch.no_grad():
        pyramid = segmentor.encode(image)
        output = segmentor.decode(pyramid, (129, 173))
        logits, features = Twin(segmentor.decoder)(
            pyramid[0].double(), pyramid[-1].double(), rates=(1, 2, 3), size=(129, 173)
        )
    torch.testing.assert_close(output.features.double(), features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.logits.double(), logits, atol=1e-4, rtol=1e-4)


def test_features_are_not_negative_so_cosines_lie_between_0_and_1(segmentor):
    segmentor.eval()
    with torch.no_grad():
        features = segmentor(torch.randn(2, 3, 65, 65)).features
    assert features.min() == 0
    assert features.max() > 0


@pytest.mark.parametrize("rates", [(12, 24, 36), (6, 12, 18)])
def test_aspp_rates_are_taken_as_given(rates):
    with torch.device("meta"):
        decoder = DeepLabV3Plus([64, 128], num_classes=2, channels=8, rates=rates)
    atrous = [branch[0] for branch in decoder.aspp.branches[2:]]
    assert [conv.dilation for conv in atrous] == [conv.padding for conv in atrous] == [(rate, rate) for rate in rates]


def test_the_decoder_has_bias_where_the_paper_has_it():
    with torch.device("meta"):
        decoder = DeepLabV3Plus([64, 128], num_classes=2, channels=8)
    biased = {name for name, each in decoder.named_modules() if isinstance(each, nn.Conv2d) and each.bias is not None}
    assert biased == {"low_conv.0", "classifier.0", "classifier.4", "classifier.8"}
