"""The command line: words, and one call."""
