"""Options of U2PL."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import MixOptions, PrototypesBeside, require_probability


@dataclass(frozen=True)
class U2PLOptions(MixOptions, PrototypesBeside):
    """U2PL: unreliable pseudo-labels as negatives (Wang et al., CVPR 2022)."""

    warmup: float = field(default=0.0125, metadata=NOT_COUNTED)
    """Share of the steps that are supervised only. The default is the code's one epoch of 80."""
    drop: float = 0.2
    """Share of the unlabelled pixels, the least certain ones, that teach no label at first; it falls to 0."""
    contrastive_weight: float = field(default=0.25, metadata=NOT_COUNTED)
    """Weight of the contrastive loss. The code's 1 is in effect 1 / GPUs: 0.25 on VOC, 0.125 on Cityscapes."""
    extremes: float = 0.2
    """Share of the unlabelled pixels that are reliable at first, and share that are unreliable; it falls to 0."""
    anchors: int = 256
    """Anchors per class and step."""
    anchor_confidence: float = 0.3
    """Teacher's probability of its class above which a reliable pixel may be an anchor."""
    negatives: int = 50
    """Negatives per anchor."""
    temperature: float = field(default=0.5, metadata=NOT_COUNTED)
    """Of the cosines in the contrastive loss."""
    low_rank: int = 3
    """An unlabelled pixel is no negative of its so many likeliest classes; a labelled one is of no others."""
    high_rank: int = 20
    """Nor of the classes from this rank on, counted from 0."""
    channels: int = 256
    """Of the representation."""
    queue_size: int = 30_000
    """Representations each class remembers as its negatives."""
    queue_size_first: int = 50_000
    """Likewise for class 0, the background on VOC."""
    enqueue: int | None = None
    """At most so many new ones per class and step, an even sample. None: as many as the queue holds."""
    save_queues: bool = True
    """Write the queues into checkpoints, 0.7 GB with 21 classes. Off: a resumed run fills them anew."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("drop", "anchor_confidence"):
            require_probability(name, getattr(self, name))
        require(0 <= self.extremes <= 0.5, "method.extremes is a share at either end: between 0 and 0.5")
        require(self.contrastive_weight >= 0, "method.contrastive_weight cannot be negative")
        require(self.temperature > 0, "method.temperature must be positive")
        require(0 <= self.low_rank <= self.high_rank, "method.low_rank must lie between 0 and method.high_rank")
        for name in ("anchors", "negatives", "channels", "queue_size", "queue_size_first"):
            require(getattr(self, name) >= 1, f"method.{name} must be at least 1")
        require(self.enqueue is None or self.enqueue >= 1, "method.enqueue must be at least 1, or none for no limit")
