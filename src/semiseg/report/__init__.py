"""Run folders in, one self-contained HTML file out: no network, light and dark.

Every score comes from metrics.jsonl and result.json; only the pictures are predicted anew, from the last checkpoint.
"""

from __future__ import annotations

from semiseg.report.answer import Answer, Verdict
from semiseg.report.doubts import doubts_of
from semiseg.report.opening import closing
from semiseg.report.page import summary, write_answer, write_comparison, write_report
from semiseg.report.pictures import save_sheet

__all__ = [
    "Answer",
    "Verdict",
    "closing",
    "doubts_of",
    "save_sheet",
    "summary",
    "write_answer",
    "write_comparison",
    "write_report",
]
