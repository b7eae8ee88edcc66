"""Training on a folder of one's own: a plan from data and machine, a baseline beside the method, an honest verdict."""
