"""Options of Mean Teacher."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import TeacherOptions


@dataclass(frozen=True)
class MeanTeacherOptions(TeacherOptions):
    """Mean Teacher (Tarvainen & Valpola 2017), as applied to segmentation."""

    unlabeled_weight: float = field(default=100.0, metadata=NOT_COUNTED)
    """Weight of the mean squared difference of the two softmaxes, after its ramp."""
    ramp: float = field(default=0.1, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which the weight rises as exp(-5 (1 - t)^2)."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the student's normalised image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ramp <= 1, "method.ramp is a share of the steps: between 0 and 1")
        require(self.noise >= 0, "method.noise cannot be negative")
