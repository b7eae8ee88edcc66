"""A config in, a run folder out."""
