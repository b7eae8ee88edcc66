"""Options of Mean Teacher."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Share, Weight
from semiseg.config.methods.shared import TeacherOptions


@dataclass(frozen=True)
class MeanTeacherOptions(TeacherOptions):
    """Mean Teacher (Tarvainen & Valpola 2017), as applied to segmentation."""

    unlabeled_weight: Weight = field(default=100.0, metadata=NOT_COUNTED)
    """Weight of the mean squared difference of the two softmaxes, after its ramp."""
    ramp: Share = field(default=0.1, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which the weight rises as exp(-5 (1 - t)^2)."""
    noise: Weight = 0.0
    """Standard deviation of the Gaussian noise on the student's normalised image."""
