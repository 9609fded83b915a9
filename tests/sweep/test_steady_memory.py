"""Tensor memory of training, counted allocation by allocation: what grows with depth; nothing grows with time."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from allocations import allocations
from networks import hdnn

import dist_hdnn
from dist_hdnn.sweep.sweep import run, run_back

STEPS, SETTLED = 1000, 100  # counted from the hundredth step on


def made(layers: int, **options: Any) -> dist_hdnn.HDNN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdnn(dist_hdnn.ring(8), width=2, layers=layers, step=0.05, **options)


def step(net: dist_hdnn.HDNN, y: torch.Tensor) -> None:
    net.zero_grad(set_to_none=True)
    net(y).square().sum().backward()


def beside_weights(layers: int, **options: Any) -> int:
    """Most bytes that a first training step allocates at a time, less the gradients that it hands out."""
    net = made(layers, **options)
    y = torch.randn(4096, net.neurons)
    return allocations(lambda: step(net, y)).peak - sum(parameter.nbytes for parameter in net.parameters())


@pytest.mark.parametrize("options", [{}, {"architecture": "MS1"}, {"X": "neighbours", "K": "block_diagonal"}], ids=str)
def test_reversible_memory_does_not_grow_with_depth(options: dict[str, Any]) -> None:
    shallow, deep = (beside_weights(layers, memory="reversible", **options) for layers in (8, 512))
    assert deep < 1.05 * shallow


def test_stored_memory_grows_with_depth_and_recomputed_with_its_root() -> None:
    stored = [beside_weights(layers) for layers in (8, 128)]
    recomputed = [beside_weights(layers, memory="recompute") for layers in (8, 128)]
    assert stored[1] > 10 * stored[0]
    assert 2 * recomputed[0] < recomputed[1] < 6 * recomputed[0]


@pytest.mark.parametrize("plan", ["torch", "tiles"])
@pytest.mark.parametrize("memory", ["store", "recompute", "reversible"])
def test_a_thousand_training_steps_leave_no_memory_behind(memory: Any, plan: str) -> None:
    if plan == "tiles":
        pytest.importorskip("llvmlite")
    net = made(2, memory=memory, plan=plan)
    y = torch.randn(16, net.neurons)
    adam = torch.optim.Adam(net.parameters(), fused=True)

    def train(steps: int) -> None:
        for _ in range(steps):
            step(net, y)
            adam.step()
        net.zero_grad(set_to_none=True)

    train(SETTLED)
    counted = STEPS - SETTLED
    assert abs(allocations(lambda: train(counted)).left) < counted  # less than a byte a step: a tensor has four


@pytest.mark.parametrize("options", [{}, {"architecture": "MS1"}, {"X": "neighbours"}], ids=str)
@pytest.mark.parametrize("memory", ["store", "recompute", "reversible"])
def test_a_layer_allocates_nothing(memory: Any, options: dict[str, Any]) -> None:
    """A step of 12 layers allocates as much as one of 4 in the sweep, but for the gradients that it hands out."""
    found = []
    for layers in (4, 12):
        net = made(layers, memory=memory, keep_every=None if memory == "store" else 4, **options)
        y = torch.randn(256, net.neurons)
        weights = {name: [tensor.detach() for tensor in tensors] for name, tensors in net.weights().items()}
        handed_out = sum(tensor.nbytes for tensors in weights.values() for tensor in tensors)

        def sweep(
            net: dist_hdnn.HDNN = net, y: torch.Tensor = y, weights: dict[str, list[torch.Tensor]] = weights
        ) -> None:
            with torch.no_grad():
                tape = net.sweep.lease(y)
                run_back(net.sweep, tape, y, run(net.sweep, tape, y, weights), weights)
                net.sweep.pool.give_back(tape)

        sweep()
        found.append(allocations(sweep).allocated - handed_out)
    state = 256 * net.neurons * 4
    assert abs(found[1] - found[0]) < 0.1 * state
