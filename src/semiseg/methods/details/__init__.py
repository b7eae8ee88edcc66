"""What one method alone needs, under its name, apart so that its file reads like its algorithm."""
