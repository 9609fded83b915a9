"""Checkpoints: written while training runs, read by any number of workers."""
