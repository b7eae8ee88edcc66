"""What a run takes: estimated before, measured after."""
