"""The network as an `nn.Module`: weights, readouts, initial values, regulariser, and the dense one-process twin."""
