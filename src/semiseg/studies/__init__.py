"""Methods held against supervised-only training: a grid of runs, and one table of what they gave."""
