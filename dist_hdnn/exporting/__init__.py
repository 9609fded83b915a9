"""Trained networks for other programs: torch.export, one archive per agent, published files."""
