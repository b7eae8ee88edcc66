"""The paper's analyses beside its scores, of any runs: Table 5 (variances), Fig. 2 (t-SNE), Fig. 4 and 5 (pictures)."""

from __future__ import annotations

from semiseg.analysis.discrimination import discriminate
from semiseg.analysis.embedding import embed
from semiseg.analysis.pictures import picture

__all__ = ["discriminate", "embed", "picture"]
