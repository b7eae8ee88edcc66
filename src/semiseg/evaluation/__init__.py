"""A predictor and images: scores, masks, the model for use."""
