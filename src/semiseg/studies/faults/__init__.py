"""Runs that are disturbed on purpose, resumed, and held against the same run left alone."""
