"""Train on images of your own that are no files: here bright discs on noise, of which four have masks."""

import sys

import numpy as np

import semiseg

SIZE = 48


class Discs:
    """A set that is drawn when it is read: any object with a length and items will do."""

    def __init__(self, count: int, seed: int, masks: bool = True) -> None:
        self.count, self.seed, self.masks = count, seed, masks

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> object:
        rng = np.random.default_rng([self.seed, index])  # the same picture whenever it is asked for
        rows, columns = np.mgrid[:SIZE, :SIZE]
        center, radius = rng.integers(12, SIZE - 12, 2), rng.integers(6, 12)
        mask = ((rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2).astype(np.uint8)  # (H, W)
        image = rng.integers(0, 120, (SIZE, SIZE, 3)) + 120 * mask[..., None]
        image = image.astype(np.uint8)  # (H, W, 3)
        return (image, mask) if self.masks else image


dataset = semiseg.Dataset.from_items(
    ["background", "disc"],
    labeled=Discs(4, seed=1),
    unlabeled=Discs(40, seed=2, masks=False),
    val=Discs(8, seed=3),
)
run = semiseg.train(
    "folder",
    dataset=dataset,
    method="prototype",
    steps=30,
    crop_height=SIZE,
    crop_width=SIZE,
    channels=16,
    batch_labeled=4,
    batch_unlabeled=4,
    workers=0,
    run=sys.argv[1] if len(sys.argv) > 1 else "runs/own_dataset",
)
image, mask = Discs(1, seed=4)[0]
labels, confidence = run.predict(image)
print(f"validation mIoU {run.result['best']['val']['miou']:.1f}; {(labels == mask).mean():.0%} of a new image is right")
