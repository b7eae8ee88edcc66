"""What lies in a run folder beside checkpoints/ and model/."""

from __future__ import annotations

METRICS, CONFIG, RESULT = "metrics.jsonl", "config.yaml", "result.json"
CONFUSIONS = (
    "confusions.npz"  # of the last step: `names` (N,) of the validation images, each predictor's counts (N, C, C)
)
