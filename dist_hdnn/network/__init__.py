"""The network as an `nn.Module`: K on a communication graph, owned by workers, drawn from keys."""
