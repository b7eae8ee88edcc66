"""Seconds of a forward and a backward pass by decoder, on one thread: uv run python benchmarks/decoders.py"""

import time

import torch

from semiseg.config.options import NetworkOptions
from semiseg.networks import build

LITE0 = "tf_efficientnet_lite0"
DECODERS = (
    ("smp:FPN", f"tu-{LITE0}", 32, 64),
    ("fpn", LITE0, 32, 64),
    ("fpn", LITE0, 32, 96),
    ("fpn", LITE0, 16, 64),
    ("deeplabv3plus", LITE0, 16, 64),
    ("smp:Unet", f"tu-{LITE0}", 32, 64),
)
"""Network, encoder, output stride, channels."""
SIZES = ((128, 160), (180, 240))


def seconds(network: torch.nn.Module, image: torch.Tensor, rounds: int = 4) -> float:
    """The best of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        network(image).logits.mean().backward()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    for name, encoder, stride, channels in DECODERS:
        options = NetworkOptions(
            name=name, encoder=encoder, output_stride=stride, channels=channels, weights="package", multi_grid=False
        )
        network = build(options, 11).train().to(memory_format=torch.channels_last)
        for size in SIZES:
            image = torch.randn(8, 3, *size).to(memory_format=torch.channels_last)
            print(f"{name}, stride {stride}, {channels} channels, {size}: {seconds(network, image):.2f} s", flush=True)


if __name__ == "__main__":
    main()
