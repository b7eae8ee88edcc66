"""Options of U2PL."""

from dataclasses import dataclass, field
from typing import Annotated

from semiseg.config.checks import NOT_COUNTED, Count, Positive, Range, Share, ShareBelowOne, Weight, require
from semiseg.config.methods.shared import MixOptions, PrototypesBeside, Width

Rank = Annotated[int, Range(0, 255)]
"""Of a class among a pixel's, from the likeliest."""


@dataclass(frozen=True)
class U2PLOptions(MixOptions, PrototypesBeside):
    """U2PL: unreliable pseudo-labels as negatives (Wang et al., CVPR 2022)."""

    warmup: ShareBelowOne = field(default=0.0125, metadata=NOT_COUNTED)
    """Share of the steps that are supervised only. The default is the code's one epoch of 80."""
    drop: Share = 0.2
    """Share of the unlabelled pixels, the least certain ones, that teach no label at first; it falls to 0."""
    contrastive_weight: Weight = field(default=0.25, metadata=NOT_COUNTED)
    """Weight of the contrastive loss. The code's 1 is in effect 1 / GPUs: 0.25 on VOC, 0.125 on Cityscapes."""
    extremes: Annotated[float, Range(0, 0.5)] = 0.2
    """Share of the unlabelled pixels that are reliable at first, and share that are unreliable; it falls to 0."""
    anchors: Count = 256
    """Anchors per class and step."""
    anchor_confidence: Share = 0.3
    """Teacher's probability of its class above which a reliable pixel may be an anchor."""
    negatives: Count = 50
    """Negatives per anchor."""
    temperature: Positive = field(default=0.5, metadata=NOT_COUNTED)
    """Of the cosines in the contrastive loss."""
    low_rank: Rank = 3
    """An unlabelled pixel is no negative of its so many likeliest classes; a labelled one is of no others."""
    high_rank: Rank = 20
    """Nor of the classes from this rank on, counted from 0."""
    channels: Width = 256
    """Of the representation."""
    queue_size: Count = 30_000
    """Representations each class remembers as its negatives."""
    queue_size_first: Count = 50_000
    """Likewise for class 0, the background on VOC."""
    enqueue: Count | None = None
    """At most so many new ones per class and step, an even sample. None: as many as the queue holds."""
    save_queues: bool = True
    """Write the queues into checkpoints, 0.7 GB with 21 classes. Off: a resumed run fills them anew."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.low_rank <= self.high_rank, "method.low_rank must lie between 0 and method.high_rank")
