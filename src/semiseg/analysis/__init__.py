"""What the paper shows beside its scores: Table 5 (variances), Fig. 2 (t-SNE), Fig. 4 and 5 (pictures), of any runs."""

from __future__ import annotations

from semiseg.analysis.discrimination import discriminate
from semiseg.analysis.embedding import embed
from semiseg.analysis.pictures import picture

__all__ = ["discriminate", "embed", "picture"]
