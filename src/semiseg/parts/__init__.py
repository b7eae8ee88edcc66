"""What a training step of any method is made of: views, mixes, pseudo-labels, losses, sampling, prototypes, teacher."""
