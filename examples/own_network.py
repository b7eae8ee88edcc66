"""Train a network of your own with any method that reads its features: here a small U-shaped one on drawn scenes."""

import sys

import torch
from torch import Tensor, nn

import semiseg


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class Decoder(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = block(16 + 32, 32)
        self.classifier = nn.Conv2d(32, classes, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        coarse = nn.functional.interpolate(coarse, fine.shape[-2:])
        return self.classifier(self.head(torch.cat([fine, coarse], 1)))  # (B, C, h, w), half the image's size


class MyNetwork(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([block(3, 16, 2), block(16, 32, 2)])
        self.decoder = Decoder(classes)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.encoder[0](image)
        return self.decoder(fine, self.encoder[1](fine))


# Under a name, the network is built again wherever the run is loaded: by --resume, `semiseg evaluate`, the report.
semiseg.NETWORKS["mine"] = lambda options, classes: semiseg.wrap(MyNetwork(classes), features="decoder.head")

if __name__ == "__main__":
    run = semiseg.train(
        "demo",
        method="prototype",
        network="mine",
        steps=20,
        crop_height=64,
        crop_width=64,
        run=sys.argv[1] if len(sys.argv) > 1 else "runs/own_network",
        **{"data.scenes.unlabeled": 20, "data.scenes.val": 4},
    )
    print(f"validation mIoU {run.result['best']['val']['miou']:.1f}, again {run.evaluate()['miou']:.1f}")
