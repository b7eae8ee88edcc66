"""Options of the losses on labelled images."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from semiseg.config.checks import NOT_COUNTED, Count, Options, Range, Weight


@dataclass(frozen=True)
class LossOptions(Options):
    """The supervised loss, and in how many parts losses of full size are taken."""

    section: ClassVar[str] = "loss"

    kind: Literal["ce", "ohem"] = "ce"
    """Plain cross-entropy (Eq. 5), or over hard pixels only (OHEM)."""
    ohem_threshold: Annotated[float, Range(0, 1, above=True)] = field(default=0.7, metadata=NOT_COUNTED)
    """OHEM keeps pixels whose true class has at most this probability..."""
    ohem_min_kept: Count = field(default=100_000, metadata=NOT_COUNTED)
    """...and at least so many of the batch's pixels; scale it with the batch (100,000 was for 2 crops of 513 x 513)."""
    aux_weight: Weight = 0.4
    """Weight of the auxiliary head's loss, where there is one."""
    class_weights: Literal["none", "sqrt", "effective"] = field(default="none", metadata=NOT_COUNTED)
    """Weights of the classes in the cross-entropy, from their labelled pixels: 1 over the root of their share (`sqrt`),
    or over their effective number (Cui et al. 2019; stronger). The mean weight of a labelled pixel is 1."""
    logit_adjust: Annotated[float, Range(0, 10)] = field(default=0.0, metadata=NOT_COUNTED)
    """The cross-entropy reads logits + this x log(share of labelled pixels), and predictions the logits alone: rare
    classes get larger logits (Menon et al. 2021; theirs is 1). 0: off."""
    dice: Weight = field(default=0.0, metadata=NOT_COUNTED)
    """Weight of a soft Dice loss on labelled images, over the classes that each of them shows; 0: off."""

    @property
    def reads_class_pixels(self) -> bool:
        """Whether the loss depends on how many labelled pixels each class has."""
        return self.class_weights != "none" or self.logit_adjust > 0
