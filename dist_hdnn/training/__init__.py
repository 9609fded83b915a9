"""Training: the loop, its metrics, and the files that keep a network."""
