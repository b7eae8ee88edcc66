"""Supervised only: the labelled images, and nothing else (Eq. 5).

    loss = CE(student(weak(x)), y)

Differences from the paper and its code: docs/methods/supervised.md.
"""

from __future__ import annotations

from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.methods.method import Method


class Supervised(Method):
    """Learns from labelled images alone; what is evaluated is the student itself."""

    uses_unlabeled = False

    Options = SupervisedOptions
    options: SupervisedOptions
