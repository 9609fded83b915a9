"""y0 -> yN and back: all layers of a network as one autograd function."""
