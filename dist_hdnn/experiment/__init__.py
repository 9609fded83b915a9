"""Train, evaluate and certify what a config describes."""
