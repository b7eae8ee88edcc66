"""`semiseg bench`: what the package's own work costs, measured in one process side by side with what it could cost."""

from semiseg.costs.bench.run import BENCHMARKS, run

__all__ = ["BENCHMARKS", "run"]
