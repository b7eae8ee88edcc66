"""What a process stands on: ranks, devices, precision, files, progress, provenance, time."""
