"""What a run would do, counted before anything is trained, from options alone.

    stages      what the layers of each graph exchange     reach       how far and how densely agents are coupled
    sizes       trained numbers and memory                 traffic     rounds, messages and bytes
    overview    `inspect`: all of it, with warnings

Everything is computed on whole arrays, because a graph may have 100 000 agents.
"""

from dist_hdnn.inspection.overview import exchanged, inspect, per_prediction

__all__ = ["exchanged", "inspect", "per_prediction"]
