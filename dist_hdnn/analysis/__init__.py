"""What theory promises of a network, measured on a trained one: sensitivities, symplecticity, bounds, momentum."""
