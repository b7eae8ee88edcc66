"""Supervised only: the labelled images, and nothing else (Eq. 5).

    loss = CE(student(weak(x)), y)

Differences from the paper's rows: U2PL's supervised-only baseline on VOC runs far fewer steps than the methods it is
compared with; here every method takes the same number of steps on the same labelled batches.
"""

from __future__ import annotations

from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.methods.method import Method


class Supervised(Method):
    """Learns from labelled images alone; what is evaluated is the student itself."""

    uses_unlabeled = False

    Options = SupervisedOptions
    options: SupervisedOptions
