"""Plots and files of a run. Modules that draw import matplotlib, so they are imported where something is drawn."""
