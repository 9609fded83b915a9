"""Figures of a run, counted from its patterns before a weight is drawn or anything is trained.

    traffic     reach, rounds, messages and bytes of the agents
    sizes       trained numbers and memory
    overview    `inspect`: all of it, with warnings

Everything is computed on whole arrays, because a graph may have 100 000 agents.
"""

from dist_hdnn.inspection.overview import exchanged, inspect
from dist_hdnn.inspection.traffic import per_prediction

__all__ = ["exchanged", "inspect", "per_prediction"]
