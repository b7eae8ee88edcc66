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
CROPS = ((8, 128, 160), (8, 180, 240), (8, 256, 320), (4, 240, 320))
"""Images in a batch, height, width."""


def seconds(network: torch.nn.Module, image: torch.Tensor, bf16: bool = False, rounds: int = 4) -> float:
    """The best of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(image).logits.mean()
        loss.backward()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    for name, encoder, stride, channels in DECODERS:
        options = NetworkOptions(
            name=name, encoder=encoder, output_stride=stride, channels=channels, weights="package", multi_grid=False
        )
        network = build(options, 11).train().to(memory_format=torch.channels_last)
        for crop in CROPS:
            batch, *size = crop
            image = torch.randn(batch, 3, *size).to(memory_format=torch.channels_last)
            taken, in_bf16 = (seconds(network, image, bf16) for bf16 in (False, True))
            title = f"{name}, stride {stride}, {channels} channels, {batch} x {size[0]} x {size[1]}"
            print(f"{title}: {taken:.2f} s, in bf16 {in_bf16:.2f} s", flush=True)


if __name__ == "__main__":
    main()
