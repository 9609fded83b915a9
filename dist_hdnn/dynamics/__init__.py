"""y' = J Kᵀ σ(K y + b) and its family: terms, architectures, integrators and one step of a layer."""
