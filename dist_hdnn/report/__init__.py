"""Plots of a run, written as PNG files."""

from dist_hdnn.report.curves import plot_curves, plot_gradient_norms
from dist_hdnn.report.graph_picture import plot_graph
from dist_hdnn.report.plots import plot_decision, plot_pattern

__all__ = ["plot_curves", "plot_decision", "plot_gradient_norms", "plot_graph", "plot_pattern"]
