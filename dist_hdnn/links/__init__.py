"""Links that are not perfect: their properties, the fate of every message, and what both cost."""
