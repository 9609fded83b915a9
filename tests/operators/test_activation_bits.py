"""In a deterministic network every element of an activation has bits of its own, wherever it lies."""

from __future__ import annotations

import pytest
import torch
from networks import quiet_graph
from on_workers import same_bits
from torch import Tensor

from dist_hdnn.operators.activations import ACTIVATIONS, BLOCK, BLOCKS, Activation, activation


def evaluated(sigma: Activation, u: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """σ(u) and g σ'(u)."""
    z, w = torch.empty_like(u), torch.empty_like(u)
    sigma.value(u, out=z)
    return z, sigma.times_slope(g, u if sigma.keeps_argument else None, z, out=w)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bits_of_an_element_do_not_depend_on_its_place(name: str, dtype: torch.dtype) -> None:
    sigma = activation(name, in_blocks=True)
    u, g = 3 * torch.randn(128, dtype=dtype), torch.randn(128, dtype=dtype)
    z, w = evaluated(sigma, u, g)
    for start in range(20):
        for length in range(1, 71):
            part = slice(start, start + length)
            values, slopes = evaluated(sigma, u[part], g[part])  # views: every alignment
            assert torch.equal(values, z[part]) and torch.equal(slopes, w[part]), (start, length)
    order = torch.randperm(128)
    values, slopes = evaluated(sigma, u[order].view(16, 8), g[order].view(16, 8))
    assert torch.equal(values.view(-1), z[order]) and torch.equal(slopes.view(-1), w[order])


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_bits_hold_over_more_elements_than_are_evaluated_at_a_time(name: str) -> None:
    sigma = activation(name, in_blocks=True)
    u, g = 3 * torch.randn(2 * BLOCK * BLOCKS + 5), torch.randn(2 * BLOCK * BLOCKS + 5)
    z, w = evaluated(sigma, u, g)
    values, slopes = evaluated(sigma, u[-77:], g[-77:])
    assert torch.equal(values, z[-77:]) and torch.equal(slopes, w[-77:])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("workers", [2, 3])
def test_deterministic_networks_give_the_same_bits_with_every_activation(name: str, workers: int) -> None:
    widths = {agent: 2 + 2 * (agent % 3) for agent in range(17)}
    options = {"width": widths, "layers": 3, "step": 0.4, "activation": name, "deterministic": True}
    assert same_bits(quiet_graph("random"), workers, options)
