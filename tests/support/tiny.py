"""A segmentor of a few hundred parameters and batches for it: what the tests of the methods train."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config.options import OptimOptions
from semiseg.methods.method import Method, MethodContext
from semiseg.networks.dpt import DPT
from semiseg.networks.vit import ViTEncoder, spread_layers
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.segmentor import Segmentor
from semiseg.training.optim import Optimizer, build_optimizer
from semiseg.types import IGNORE, Clock, LabeledBatch, StepResult, UnlabeledBatch

CLASSES = ("ground", "tree", "bird")


def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Softplus instead of ReLU: no feature is ever exactly 0, so no cosine is undefined."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.Softplus())


class Encoder(nn.Module):
    """Two maps, at strides 2 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow, self.deep = block(3, 5, 2), block(5, 6, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        shallow = self.shallow(image)
        return [shallow, self.deep(shallow)]


class Decoder(nn.Module):
    """Both maps at the finer one's size are the features; dropout and a 1 x 1 convolution give the logits."""

    feature_channels = 11

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(11, num_classes, 1))

    def forward(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        shallow, deep = pyramid
        upsampled = F.interpolate(deep, shallow.shape[-2:], mode="bilinear", align_corners=True)
        features = torch.cat([shallow, upsampled], 1)
        return self.classifier(features), features


def segmentor(num_classes: int = 3, seed: int = 0, aux: bool = False, dropout: float = 0.0) -> Segmentor:
    """Random weights, large enough for confident and doubtful predictions alike."""
    torch.manual_seed(seed)
    head = nn.Conv2d(5, num_classes, 1) if aux else None
    network = Segmentor(Encoder(), Decoder(num_classes, dropout), head, num_classes)
    with torch.no_grad():
        network.decoder.classifier[1].weight.mul_(3)
    return network.train()


def vit_segmentor(num_classes: int = 3, seed: int = 0, aux: bool = False, dropout: float = 0.0) -> Segmentor:
    """The real ViT encoder with the real DPT decoder, 57,000 parameters, on patches of 4 pixels.

    Random weights, larger than at the usual start: images differ, and predictions are confident and doubtful alike.
    """
    torch.manual_seed(seed)
    model = VisionTransformer(16, 4, embed_dim=16, depth=4, num_heads=2, num_classes=0, dynamic_img_size=True)
    encoder = ViTEncoder(model, spread_layers(4))
    head = nn.Conv2d(encoder.width, num_classes, 1) if aux else None
    network = Segmentor(encoder, DPT(encoder.width, num_classes, channels=16, dropout=dropout), head, num_classes)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.mul_(10 if isinstance(layer, nn.Linear) else 1.7)
                if layer.bias is not None:
                    layer.bias.zero_()
        network.decoder.classifier[1].weight.mul_(2)
    return network.train()


def batches(
    labeled: int = 2, unlabeled: int = 3, size: tuple[int, int] = (9, 11), seed: int = 0, classes: int = 3
) -> tuple[LabeledBatch, UnlabeledBatch]:
    """Random images; labels of all `classes` and some IGNORE; a frame around one unlabelled image, and partners."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(labeled + unlabeled, 3, *size, generator=generator)
    label = torch.randint(0, classes, (labeled, *size), generator=generator)
    label[:, 0, :3] = IGNORE
    valid = torch.ones(unlabeled, *size, dtype=torch.bool)
    valid[0, :, -2:] = False
    index = torch.arange(unlabeled)
    partner = UnlabeledBatch(torch.randn(unlabeled, 3, *size, generator=generator), valid.flip(0), index.flip(0))
    return (
        LabeledBatch(images[:labeled], label, torch.arange(labeled)),
        UnlabeledBatch(images[labeled:], valid, index, partner),
    )


def setting(total_steps: int = 10, **changes) -> MethodContext:
    """A second network, for the methods that have one, is another `segmentor`; images enough for every batch."""
    fixed = {"classes": CLASSES, "total_steps": total_steps, "num_unlabeled": 8, "batch_unlabeled": 8}
    return MethodContext(**{**fixed, "another": lambda: segmentor(seed=7), **changes})


def clock(step: int = 0, total_steps: int = 10, seed: int = 0) -> Clock:
    """The clock the trainer would make: all randomness of a step, dropout's too, follows from (seed, step)."""
    torch.manual_seed(1000 * seed + step)
    return Clock(step, total_steps, torch.Generator().manual_seed(1000 * seed + step))


def optimizer_of(method: Method, lr: float = 0.05) -> Optimizer:
    """SGD, and for groups that name another kind that one."""
    options = OptimOptions(lr=lr, head_lr_factor=1, momentum=0.9, weight_decay=0.0)
    return build_optimizer(method.parameter_groups(), options)


def train_step(
    method: Method,
    optimizer: Optimizer,
    batch: tuple[LabeledBatch, UnlabeledBatch | None],
    time: Clock,
) -> StepResult:
    """What the trainer does in a step: prepare when it is time, losses, gradients, weights, `after_step`."""
    labeled, unlabeled = batch
    if time.step == method.prepare_at:
        method.prepare(one_by_one(labeled), time)
    result = method(labeled, unlabeled, time)
    result.loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.after_step(time)
    return result


def one_by_one(labeled: LabeledBatch) -> list[LabeledBatch]:
    """The batch as `prepare` gets it: one image each."""
    return [LabeledBatch(*(tensor[i : i + 1] for tensor in labeled[:3])) for i in range(len(labeled.image))]


def started_predictor(prototypes: Tensor | list, temperature: float = 0.1) -> PrototypePredictor:
    """A predictor that has started with these (C, K, D)."""
    values = torch.as_tensor(prototypes)
    made = PrototypePredictor(*values.shape, temperature)
    made.prototypes.copy_(values)
    made.ready.fill_(True)
    return made
