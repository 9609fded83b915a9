"""Gather and scatter-add, and the mathematics on them; knows slices, not ranks."""
