"""What each architecture and integrator promises: gradients, inverse, volume, order, rounds, and messages of misuse."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import FAMILY, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.dynamics.architectures import ARCHITECTURES
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.sweep.sweep import Layers
from dist_hdnn.sweep.weights import flatten, unflatten

TWO_PARTS = [options for options in FAMILY if len(ARCHITECTURES[options["architecture"]].parts) == 2]
ONE_PART = [options for options in FAMILY if options not in TWO_PARTS]


def jacobian(net: dist_hdnn.HDNN, y: torch.Tensor) -> torch.Tensor:
    """∂y_N/∂y_0 at one sample, (neurons, neurons)."""
    with net.linearize(y.repeat(net.neurons, 1)) as at:
        return at.push(torch.eye(net.neurons, dtype=y.dtype), 0, net.layers).T


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_gradients_of_every_architecture_pass_gradcheck(options: dict[str, Any]) -> None:
    net = network(quiet_graph("path"), layers=2, step=0.3, **options)
    y = torch.randn(2, net.neurons, dtype=torch.float64, requires_grad=True)
    weights = net.weights()
    flat = [tensor.detach().clone() for tensor in flatten(weights)]
    for tensor, parameter in zip(flat, flatten(weights), strict=True):
        tensor.requires_grad_(parameter.requires_grad)
    counts = {name: len(tensors) for name, tensors in weights.items()}
    assert torch.autograd.gradcheck(
        lambda state, *w: Layers.apply(*net.sweep.arguments(state, unflatten(w, counts))), (y, *flat)
    )


@pytest.mark.parametrize("options", TWO_PARTS, ids=str)
def test_two_parts_have_determinant_one_and_an_exact_inverse(options: dict[str, Any]) -> None:
    net = network(quiet_graph("path"), layers=6, step=0.3, width=uneven_widths(5), **options)
    assert net.architecture.volume_preserving and net.architecture.invertible
    y = torch.randn(4, net.neurons, dtype=torch.float64)
    torch.testing.assert_close(net.inverse(net(y).detach()), y, rtol=0, atol=1e-10)
    sign, logarithm = torch.linalg.slogdet(jacobian(net, y[:1]))
    assert sign == 1 and abs(logarithm) <= 1e-10


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_symplectic_is_what_the_registry_says(options: dict[str, Any]) -> None:
    net = network(quiet_graph("path"), layers=3, step=0.4, width=4, **options)
    m = jacobian(net, torch.randn(1, net.neurons, dtype=torch.float64))
    if not (len(net.columns) == 2 or net.architecture.interconnection):
        assert not net.architecture.symplectic
        return
    j = net.apply_J(torch.eye(net.neurons, dtype=torch.float64)).T
    residual = torch.linalg.matrix_norm(m @ j @ m.T - j, 2) / (
        torch.linalg.matrix_norm(m, 2) ** 2 * torch.linalg.matrix_norm(j, 2)
    )
    assert (residual <= 1e-13) == net.architecture.symplectic
    if net.architecture.symplectic:
        assert torch.linalg.matrix_norm(m, 2) >= 1 - 1e-9
    else:
        assert residual > 1e-4


@pytest.mark.parametrize("options", ONE_PART, ids=str)
def test_one_part_has_no_exact_inverse_and_says_so(options: dict[str, Any]) -> None:
    net = network(quiet_graph("ring"), layers=2, **options)
    assert not net.architecture.invertible
    with pytest.raises(ValueError, match=f"inverse: .*got {net.architecture.name}, whose layers have no exact inverse"):
        net.inverse(torch.zeros(1, net.neurons, dtype=torch.float64))


def test_leapfrog_is_the_two_step_recursion() -> None:
    """q⁺ = 2 q - q⁻ - h² Kᵀ σ(K q + b) with q⁻ = q - h p at the start, and p = (q - q⁻) / h at the end."""
    net = network(quiet_graph("hubs"), layers=9, step=0.2, architecture="leapfrog", width=4)
    twin = DenseTwin(net)
    y = torch.randn(3, net.neurons, dtype=torch.float64)
    p, q = (y[:, columns] for columns in net.columns)
    before = q - net.step * p
    with torch.no_grad():
        for K, b in zip(twin.matrix("K"), twin.matrix("b"), strict=True):
            before, q = q, 2 * q - before - net.step**2 * torch.tanh(q @ K.T + b) @ K
        output = net(y)
    torch.testing.assert_close(output[:, net.columns[1]], q, rtol=0, atol=1e-12)
    torch.testing.assert_close(output[:, net.columns[0]], (q - before) / net.step, rtol=0, atol=1e-11)


def end_state(layers: int, options: dict[str, Any]) -> torch.Tensor:
    """The flow over time 1 from a fixed state with weights that do not depend on time, by so many layers."""
    net = dist_hdnn.HDNN(
        dist_hdnn.ring(4),
        width=4,
        layers=layers,
        step=1.0 / layers,
        time="shared",
        initial_scale=0.6,  # J2 of 16 neurons is stiff
        dtype=torch.float64,
        **options,
    )
    y = torch.linspace(-1, 1, net.neurons, dtype=torch.float64)[None]
    with torch.no_grad():
        return net(y)


@pytest.mark.parametrize(
    "options",
    [options for options in FAMILY if options["architecture"] not in ("mlp", "near_identity", "MS2", "MS3")],
    ids=str,
)
def test_halving_the_step_shows_the_order(options: dict[str, Any]) -> None:
    """Against 64 times as many steps of the same integrator; of the same field's order 4 where that exists."""
    order = {"semi_implicit": 1, "stormer_verlet": 2, "yoshida4": 4}.get(options.get("integrator", ""), 1)
    two = "integrator" in options
    exact = end_state(512, options | {"integrator": "yoshida4"}) if two else None
    if exact is None:  # Richardson: removes the first-order term of the reference
        exact = 2 * end_state(2048, options) - end_state(1024, options)
    coarse, fine = (float((end_state(layers, options) - exact).norm()) for layers in (16, 32))
    assert fine > 1e-13
    assert abs(np.log2(coarse / fine) - order) < 0.15


def test_the_oscillator_shows_the_order_against_its_known_solution() -> None:
    """Leapfrog with σ = identity, K = 1, b = 0 is q'' = -q: q = cos t, p = -sin t."""

    def error(integrator: str, layers: int) -> float:
        net = dist_hdnn.HDNN(
            dist_hdnn.ring(1),
            layers=layers,
            step=2.0 / layers,
            architecture="leapfrog",
            integrator=integrator,
            activation=lambda u: 1.0 * u,
            dtype=torch.float64,
        )
        with torch.no_grad():
            net.K[0].fill_(1.0)
            net.b.zero_()
            end = net(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
        return float((end - torch.tensor([[-np.sin(2.0), np.cos(2.0)]])).norm())

    for integrator, order in (("semi_implicit", 1), ("stormer_verlet", 2), ("yoshida4", 4)):
        assert abs(np.log2(error(integrator, 20) / error(integrator, 40)) - order) < 0.1


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_rounds_are_those_of_the_registry(options: dict[str, Any]) -> None:
    net = network(quiet_graph("ring"), layers=2, **options)
    net.reset_traffic()
    net(torch.randn(3, net.neurons, dtype=torch.float64)).sum().backward()
    rounds = net.hops_per_layer()
    assert net.traffic()["rounds"] == 2 * 2 * rounds  # both sweeps of 2 layers
    expected = {
        ("hamiltonian", "semi_implicit", "neighbours", "neighbours"): 6,
        ("MS1", "semi_implicit", None, None): 2,
        ("verlet", "stormer_verlet", None, None): 3,
        ("leapfrog", "semi_implicit", None, None): 2,
        ("H1", None, None, None): 2,
        ("H1", None, None, "neighbours"): 4,
        ("antisymmetric", None, None, None): 2,
        ("mlp", None, None, None): 1,
    }
    key = tuple(options.get(name) for name in ("architecture", "integrator", "K", "X"))
    assert rounds == expected.get(key, rounds)


def test_an_antisymmetric_network_owns_each_pair_once() -> None:
    net = network(quiet_graph("ring"), layers=1, width=3, architecture="antisymmetric")
    rows, columns = net.scalar_positions("S", 0)
    assert bool((rows < columns).all())
    whole = 8 * 3 * 9 - 8 * 3  # off-diagonal entries of the ring's pattern
    assert net.S[0].numel() == whole // 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "hamitonian"}, "network.architecture: expected one of hamiltonian, H1.*Did you mean hamil"),
        ({"architecture": "ms1"}, "Did you mean MS1"),
        ({"integrator": "stormer"}, "network.integrator: expected one of semi_implicit.*Did you mean stormer_verlet"),
        ({"architecture": "H1", "integrator": "yoshida4"}, "expected one of forward_euler for the architecture H1"),
        ({"gamma": 0.1}, "network.gamma: expected nothing, because the architecture hamiltonian does not use it"),
        ({"architecture": "MS2", "gamma": 0.1}, "network.gamma: expected nothing.*MS2"),
        ({"architecture": "antisymmetric", "gamma": -0.1}, "network.gamma: expected a damping >= 0, got -0.1"),
        ({"architecture": "antisymmetric", "gamma": float("nan")}, "network.gamma: expected a damping >= 0"),
        ({"architecture": "MS3", "X": "neighbours"}, "network.X: expected nothing.*MS3"),
        ({"architecture": "MS1", "shared_x": False}, "network.shared_x: expected nothing.*MS1"),
        ({"J": "J2"}, "network.J: expected nothing.*hamiltonian"),
        ({"architecture": "H1", "J": "J3"}, "network.J: expected J1, J2, trained or a skew matrix, got 'J3'"),
        ({"architecture": "H1", "X": "neighbours"}, "network.X: expected nothing with J1"),
        ({"architecture": "H1", "width": 3}, "network.J: expected even widths for J1"),
        ({"architecture": "H1", "J": np.ones((16, 16))}, "network.J: expected a skew matrix, J = -Jᵀ"),
        ({"architecture": "H1", "J": np.zeros((4, 4))}, r"network.J: expected a skew matrix of 16 x 16.*got \(4, 4\)"),
        ({"architecture": "H1", "J": np.zeros(3)}, r"network.J: expected a skew matrix of 16 x 16.*got \(3,\)"),
        (
            {"architecture": "H1", "J": np.triu(np.ones((16, 16))) - np.triu(np.ones((16, 16))).T},
            "network.J: expected entries on the pattern block_diagonal of X alone, got .* first .* between agents",
        ),
        (
            {"architecture": "MS2", "K": np.eye(8) + np.eye(8, k=1)},
            "network.K: expected a symmetric pattern for a skew",
        ),
        ({"time": "knots"}, "network.time: expected free, shared, or a number of knots from 2 to the 4 layers"),
        ({"time": 1}, "network.time: .*got 1"),
        ({"time": 5}, "network.time: .*got 5"),
        ({"architecture": "leapfrog", "width": 3}, "network.width: expected an even number"),
        ({"architecture": "resnet", "width": 0}, "network.width"),
    ],
    ids=lambda value: "".join(str(value)[:60].split()),
)
@pytest.mark.filterwarnings("ignore:pattern")
def test_misused_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dist_hdnn.HDNN(dist_hdnn.ring(8), layers=4, **options)
    assert "\n" not in str(caught.value)
