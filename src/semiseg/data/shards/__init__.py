"""Very many unlabelled images in indexed tar files: written, indexed, read."""
