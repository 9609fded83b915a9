"""u = K y and Kᵀ z for a block-sparse K over workers: halo exchange, products, activations."""
