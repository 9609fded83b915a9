"""What a run would do, counted from its patterns before a weight is drawn or anything is trained.

    traffic     how far agents reach, and their rounds, messages and bytes
    sizes       trained numbers and memory
    overview    `inspect`: all of it, with warnings

Everything is computed on whole arrays, because a graph may have 100 000 agents.
"""

from dist_hdnn.inspection.overview import exchanged, inspect, per_prediction

__all__ = ["exchanged", "inspect", "per_prediction"]
