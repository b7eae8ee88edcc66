"""Many runs, one table: a comparison of methods, the demo, and in `paper/` the paper's tables and figures."""
