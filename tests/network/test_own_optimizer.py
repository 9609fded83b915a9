"""Clipping and the state of an optimizer in a loop of one's own: the same numbers on any number of workers."""

from __future__ import annotations

import math

import pytest
import torch
from own_loops import Loop, difference, loop_on, run
from torch import Tensor

import dist_hdnn
from dist_hdnn.transport import Transport, run_threads


def clipped(loop: Loop, norm_type: float = 2.0) -> dict[str, Tensor]:
    """Norms and weights of three steps whose gradients are clipped to a fraction of their norm."""
    optimizer, norms = torch.optim.SGD(loop.parameters, lr=0.5), []
    for _ in range(3):
        loop.backward()
        norms.append(dist_hdnn.clip_grad_norm_(loop.parameters, 0.05, norm_type))
        optimizer.step()
    return loop.weights() | {"norms": torch.stack(norms)}


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("readout", ["local", "sum"])
def test_gradients_are_clipped_by_the_norm_of_the_whole_network(readout: str, norm_type: float) -> None:
    alone = run(1, lambda loop: clipped(loop, norm_type), readout)
    for workers in (2, 3):
        assert difference(run(workers, lambda loop: clipped(loop, norm_type), readout), alone) <= 1e-13
    loop = loop_on(None, readout)
    loop.backward()
    expected = torch.nn.utils.clip_grad_norm_(loop.parameters, 0.05, norm_type)
    assert alone["norms"][0] == expected and alone["norms"].min() > 0.05


def test_a_deterministic_network_is_clipped_by_the_same_bits() -> None:
    alone = run(1, clipped, "sum", deterministic=True)
    for workers in (2, 3):
        assert difference(run(workers, clipped, "sum", deterministic=True), alone) == 0.0


def test_a_module_and_a_single_parameter_are_clipped_as_well() -> None:
    def part(loop: Loop) -> dict[str, Tensor]:
        loop.backward()
        whole = dist_hdnn.clip_grad_norm_(loop.net, math.inf)
        return {"net": whole, "bias": dist_hdnn.clip_grad_norm_(loop.net.bp, math.inf)}

    alone = run(1, part)
    assert difference(run(2, part), alone) <= 1e-13 and 0 < alone["bias"] < alone["net"]


def test_a_norm_that_is_no_norm_or_not_finite_is_refused() -> None:
    loop = loop_on(None)
    loop.backward()
    with pytest.raises(ValueError, match="positive norm_type, got 0.0. Use 2.0"):
        dist_hdnn.clip_grad_norm_(loop.parameters, 1.0, 0.0)
    loop.parameters[0].grad[0, 0] = math.nan  # type: ignore[index]
    with pytest.raises(RuntimeError, match="expected a finite norm of the gradients, got nan"):
        dist_hdnn.clip_grad_norm_(loop.parameters, 1.0, error_if_nonfinite=True)


OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05, amsgrad=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("readout", ["local", "sum"])
def test_the_state_of_an_optimizer_loads_on_another_number_of_workers(name: str, readout: str) -> None:
    def begun(loop: Loop) -> tuple[dict[str, Tensor], dict[str, object]]:
        optimizer = OPTIMIZERS[name](loop.parameters)
        loop.train(optimizer, 2)
        return loop.weights(), dist_hdnn.optimizer_state_dict(optimizer, loop.modules)

    def resumed(transport: Transport | None) -> dict[str, Tensor]:
        loop = loop_on(transport, readout)
        for prefix, module in loop.modules.items():
            module.load_state_dict({k.split(".", 1)[1]: v for k, v in weights.items() if k.startswith(prefix)})
        optimizer = OPTIMIZERS[name](loop.parameters)
        dist_hdnn.load_optimizer_state_dict(optimizer, state, loop.modules)
        loop.train(optimizer, 2)
        return loop.weights()

    def straight(loop: Loop) -> dict[str, Tensor]:
        loop.train(OPTIMIZERS[name](loop.parameters), 4)
        return loop.weights()

    both = run_threads(2, lambda transport: begun(loop_on(transport, readout)), timeout=30)
    (weights, state), (_, other) = both
    assert str(state) == str(other)  # any worker may save it
    expected = run(1, straight, readout)
    assert difference(resumed(None), expected) <= 1e-13
    for part in run_threads(3, resumed, timeout=30):
        assert difference(part, expected) <= 1e-13


def test_an_optimizer_state_that_does_not_fit_is_refused_by_name() -> None:
    loop, other = loop_on(None), loop_on(None, width=2)
    optimizer = torch.optim.Adam(loop.parameters)
    loop.train(optimizer, 1)
    with pytest.raises(ValueError, match="all parameters in the modules, got 2 others, first of shape"):
        dist_hdnn.optimizer_state_dict(optimizer, {"net": loop.net})
    state = dist_hdnn.optimizer_state_dict(optimizer, loop.modules)
    assert state["state"]["net.Kp.0"]["exp_avg"].shape == loop.net.Kp[0].shape
    with pytest.raises(ValueError, match="groups that differ in model.Kp.0"):
        dist_hdnn.load_optimizer_state_dict(optimizer, state, {"model": loop.net, "readout": loop.readout})
    with pytest.raises(ValueError, match=r"expected exp_avg of net.bp of shape \(3, 6\), got \(3, 12\)"):
        smaller = torch.optim.Adam(other.parameters)
        dist_hdnn.load_optimizer_state_dict(
            smaller, state | {"state": {"net.bp": state["state"]["net.bp"]}}, other.modules
        )
