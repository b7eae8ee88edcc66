"""The parts of a training step of any method: views, mixes, pseudo-labels, losses, sampling, prototypes, teacher."""
