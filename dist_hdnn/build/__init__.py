"""From options to objects: data, graphs, patterns, models, and the model of a trained run."""
