"""The theory's promises about gradients and states, measured on a network: M J Mᵀ = J, |∂y_N/∂y_{N-j}| >= 1."""
