"""Options of Cross Pseudo Supervision."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Weight
from semiseg.config.methods.shared import PairOptions, PrototypesBeside


@dataclass(frozen=True)
class CPSOptions(PairOptions, PrototypesBeside):
    """Cross Pseudo Supervision (Chen et al. 2021)."""

    unlabeled_weight: Weight = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of the losses with the other network's labels; the original's is 1 on VOC and 5 on Cityscapes, and 1.5
    and 6 without `cutmix`."""

    cutmix: bool = True
    """Ask for predictions of mixed unlabelled images; off: of the labelled and unlabelled images as they are."""

    @property
    def needs_partner(self) -> bool:
        """With CutMix."""
        return self.cutmix
