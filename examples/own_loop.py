"""A method of semiseg in a training loop of your own: FixMatch on bright discs, of which two have masks."""

import torch
from torch import Tensor, nn

import semiseg
from semiseg import Clock, LabeledBatch, UnlabeledBatch

STEPS, SIZE = 60, 32


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W), normalised by ImageNet's mean and deviation, and masks (B, H, W) int64."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    center = torch.randint(8, SIZE - 8, (count, 2, 1, 1), generator=generator)
    mask = ((rows - center[:, 0]) ** 2 + (columns - center[:, 1]) ** 2 < 49).long()
    noise = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return 0.7 * noise + 1.5 * mask[:, None], mask


def layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU())


torch.manual_seed(0)
module = nn.Sequential(layer(3, 16), layer(16, 16), nn.Conv2d(16, 2, 1))
network = semiseg.wrap(module, features="1")  # logits are the output, features what its submodule "1" gives
method = semiseg.methods.FixMatch(network, threshold=0.95)
optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
images, masks = draw(2, seed=1)
others, _ = draw(64, seed=2)

for step in range(STEPS):
    clock = Clock(step, STEPS, torch.Generator().manual_seed(step))  # all the time and the randomness a method sees
    if step == method.prepare_at:  # methods with prototypes start them here, from the labelled images
        method.prepare([LabeledBatch(images, masks, torch.arange(2))], clock)
    index = torch.randperm(len(others), generator=clock.generator)[:8]
    labeled = LabeledBatch(images, masks, torch.arange(2))
    unlabeled = UnlabeledBatch(others[index], torch.ones(8, SIZE, SIZE, dtype=torch.bool), index)
    result = method(labeled, unlabeled, clock)
    optimizer.zero_grad()
    result.loss.backward()
    optimizer.step()
    method.after_step(clock)

image, mask = draw(16, seed=3)
with torch.no_grad():
    logits = method.eval().predictor(image)["linear"]  # (B, C, H, W)
losses = ", ".join(f"{name} {loss.item():.3f}" for name, loss in result.losses.items())
print(f"{losses}; {(logits.argmax(1) == mask).float().mean():.1%} of new images is right")
