"""Options of AEL."""

from dataclasses import dataclass, field
from typing import Annotated

from semiseg.config.checks import NOT_COUNTED, Count, Range, Share, ShareBelowOne, Weight, require
from semiseg.config.methods.shared import TeacherOptions, is_background


@dataclass(frozen=True)
class AELOptions(TeacherOptions):
    """AEL, adaptive equalization learning (Hu et al., NeurIPS 2021)."""

    unlabeled_weight: Weight = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of both consistency losses, on labelled and on mixed unlabelled images."""
    threshold: Share = field(default=0.7, metadata=NOT_COUNTED)
    """Confidence from which the teacher's label teaches; 0 on Cityscapes in the original."""
    gamma: Annotated[float, Range(0, 100)] = 2.0
    """A pixel weighs as much as its confidence to this power; 0: all alike."""
    equalize: bool = True
    """Leave out pixels at random, the more the surer the student is of their class."""
    bank_momentum: ShareBelowOne = 0.999
    """A class's average confidence keeps this share of itself per step that shows the class."""
    bank_area: Share = 0.03
    """An unlabelled image shows a class that the teacher sees on more than this share of it."""
    box_area: Share = 0.03
    """The pasted box is that around a region of more than this share of the partner, or a random half of the image."""
    paste_probability: Share = 0.5
    """Probability that a labelled image gets pixels of another one."""
    paste_classes: Count = 1
    """Classes that are pasted then; 3 on Cityscapes in the original."""
    paste_leave_out: tuple[Annotated[int, Range(0, 254)], ...] | None = None
    """Numbers of the classes that are never pasted. None: the background, where there is one (`background`)."""
    strong: bool = False
    """Jitter and blur the student's unlabelled copy; the original does not."""
    background: bool | None = None
    """Class 0 is the background, what is left between the objects. None: it is if its name is `background`."""

    def left_out(self, classes: tuple[str, ...]) -> tuple[int, ...]:
        """Which of `classes` are never pasted. Raises ValueError for a number that none of them has."""
        if self.paste_leave_out is None:
            return (0,) if is_background(classes[0], self.background) else ()
        require(
            all(0 <= number < len(classes) for number in self.paste_leave_out),
            f"method.paste_leave_out is {self.paste_leave_out}; expected numbers of classes, 0 to {len(classes) - 1}",
        )
        return self.paste_leave_out
