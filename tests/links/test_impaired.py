"""Sweeps over impaired links: parity with plain PyTorch, adjoints, rounding, dead agents, and perfect links."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from links.oracle import Oracle, over, table_of
from networks import GRAPHS, network, uneven_widths
from torch import Tensor

from dist_hdnn import HDNN
from dist_hdnn.links.fates import Moment
from dist_hdnn.links.model import Links
from dist_hdnn.topology import as_graph

BATCH = 7
LOSSY: dict[str, Any] = {"seed": 1, "loss": (0.0, 0.7)}
ALL: dict[str, Any] = LOSSY | {"outage": (0.0, 0.2), "burst": (1.0, 3.0), "bits": (3, 8)}
LATE: dict[str, Any] = LOSSY | {"delay_most": (0, 2)}


def parity(net: HDNN, training: bool = True) -> float:
    """Largest difference between a network and the oracle: output, input gradient, gradients of all weights."""
    assert net.links is not None
    oracle, generator = Oracle(net), torch.Generator().manual_seed(2)
    y, cotangent = torch.randn(2, BATCH, net.neurons, generator=generator, dtype=torch.float64)
    net.train(training)
    net.at(step=3, first=0 if training else 40)
    ours, theirs = (y.clone().requires_grad_() for _ in range(2))
    output, expected = net(ours), oracle(theirs, Moment(training, 3, 0 if training else 40))
    (output * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    pairs: list[Any] = [(output.detach(), expected.detach()), (ours.grad, theirs.grad)]
    pairs += [(parameter.grad, oracle.weights[name].grad) for name, parameter in net.named_parameters()]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs if b.numel())


@pytest.mark.parametrize("graph", ["ring", "grid", "star", "two agents", "isolated agents", "one agent"])
@pytest.mark.parametrize("fill", ["zero", "own", "hold", "predict"])
def test_every_fill_has_values_and_gradients_of_plain_pytorch_on_every_graph(graph: str, fill: str) -> None:
    links = {"fill": fill, "dead": (0,) if graph == "one agent" else ()}
    assert parity(over(GRAPHS[graph], LOSSY, links, layers=4, width=2)) <= 1e-10


@pytest.mark.parametrize("pair", ["exchange", "answer", "none"])
@pytest.mark.parametrize("fill", ["zero", "own", "hold", "predict"])
def test_all_impairments_together_have_those_of_plain_pytorch(fill: str, pair: str) -> None:
    links = {"fill": fill, "pair": pair, "agent_outage": np.full(8, 0.1), "failout": 0.4, "dead": (5,), "seed": 7}
    columns = ALL | {"delay_most": (0, 2)}
    assert parity(over(GRAPHS["ring"], columns, links, layers=5, width=4)) <= 1e-10
    assert parity(over(GRAPHS["ring"], columns, links, layers=5, width=4), training=False) <= 1e-10


@pytest.mark.parametrize("plan", ["tiles", "torch"])
@pytest.mark.parametrize("pair", ["exchange", "answer", "none"])
@pytest.mark.parametrize("graph", ["ring", "grid", "star", "two agents", "isolated agents", "one agent"])
def test_slices_that_are_only_lost_have_values_and_gradients_of_plain_pytorch(plan: str, pair: str, graph: str) -> None:
    """Tiles mask what is lost; the largest loss is certain."""
    columns = {"seed": 3, "loss": (0.0, 1.1), "outage": (0.0, 0.2)}
    agents = as_graph(GRAPHS[graph]).agents
    links = {"pair": pair, "agent_outage": np.full(agents, 0.1), "failout": 0.4, "seed": 2**54 + 7}
    for more, training in itertools.product(({}, {"burst": (1.0, 3.0)}), (True, False)):
        net = lossy(GRAPHS[graph], columns | more, links, layers=4, width=6, plan=plan)
        assert net.plan == plan and parity(net, training) <= 1e-10


def lossy(graph: Any, columns: dict[str, Any], links: dict[str, Any], **options: Any) -> HDNN:
    """As `over`, with losses cut at 1."""
    of_graph = as_graph(graph)
    table = table_of(of_graph, **columns)
    table.loss[:] = np.minimum(table.loss, 1.0)
    return network(of_graph, links=Links(table, of_graph.agents, **links), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3, 8, 17, 125])
def test_masks_have_the_fates_of_the_other_products_for_every_batch(
    batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_hdnn.operators.tiles.masked.KEPT", 1)  # memory for one round: fates are drawn again
    results = []
    for plan in ("tiles", "torch"):
        net = over(GRAPHS["grid"], LOSSY, {"pair": "answer"}, layers=3, width=6, plan=plan).to(dtype)
        y = torch.randn(batch, net.neurons, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()
        output = net(y)
        output.square().sum().backward()
        results.append([output.detach(), y.grad, *(parameter.grad for parameter in net.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) <= (1e-13 if dtype == torch.float64 else 3e-6)


@pytest.mark.parametrize("fill", ["zero", "hold", "predict"])
@pytest.mark.parametrize("columns", [ALL, LATE, ALL | {"delay_most": (1, 3)}], ids=["lost", "late", "both"])
def test_agents_of_unequal_widths_have_those_of_plain_pytorch(fill: str, columns: dict[str, Any]) -> None:
    net = over(GRAPHS["grid"], columns, {"fill": fill}, layers=4, width=uneven_widths(12))
    assert parity(net) <= 1e-10


@pytest.mark.parametrize(
    "options",
    [
        {"architecture": "hamiltonian", "X": "block_diagonal"},
        {"architecture": "hamiltonian", "integrator": "stormer_verlet", "time": 3},
        {"architecture": "hamiltonian", "time": "shared", "activation": "arctan"},
        {"architecture": "MS3"},
        {"architecture": "H1", "J": "J2"},
        {"architecture": "H1", "J": "J1"},
        {"architecture": "leapfrog"},
    ],
    ids=lambda options: " ".join(str(value) for value in options.values()),
)
@pytest.mark.parametrize("fill", ["zero", "own", "predict"])
def test_every_architecture_with_gradient_forces_has_those_of_plain_pytorch(options: dict[str, Any], fill: str) -> None:
    columns = LATE if fill == "predict" else ALL
    assert parity(over(GRAPHS["ring"], columns, {"fill": fill}, layers=5, width=4, **options)) <= 1e-10


@pytest.mark.parametrize("memory", [{"memory": "recompute", "keep_every": 2}, {"memory": "reversible"}])
@pytest.mark.parametrize("fill", ["zero", "own"])
@pytest.mark.parametrize("architecture", ["hamiltonian", "leapfrog"])
def test_sweeps_that_keep_no_states_meet_the_same_fates_again(memory: Any, fill: str, architecture: str) -> None:
    columns = ALL | ({"bits": 0, "bits_back": 0} if memory["memory"] == "reversible" else {})
    net = over(GRAPHS["ring"], columns, {"fill": fill, "failout": 0.5}, layers=5, architecture=architecture, **memory)
    assert parity(net) <= 1e-10


@pytest.mark.parametrize("deterministic", [False, True])
def test_sums_in_order_have_the_gradients_of_plain_pytorch(deterministic: bool) -> None:
    net = over(GRAPHS["grid"], ALL, {"fill": "own"}, layers=3, deterministic=deterministic)
    assert parity(net) <= 1e-10


def test_a_second_backward_and_a_sweep_in_between_change_nothing() -> None:
    for links, columns in (({"fill": "own"}, ALL), ({"fill": "predict"}, LATE)):
        net = over(GRAPHS["ring"], columns, links, layers=4)
        y = torch.randn(BATCH, net.neurons, dtype=torch.float64, requires_grad=True)
        net.at(step=5)
        output = net(y)
        (first,) = torch.autograd.grad(output.sum(), y, retain_graph=True)
        (second,) = torch.autograd.grad(output.sum(), y, retain_graph=True)
        with torch.no_grad():
            net(y)
        other = net(y.detach().clone().requires_grad_())
        other.sum().backward()
        (third,) = torch.autograd.grad(output.sum(), y)
        assert torch.equal(first, second) and torch.allclose(first, third, rtol=0, atol=1e-13)


@pytest.mark.parametrize("fill", ["zero", "own"])
@pytest.mark.parametrize("pair", ["exchange", "answer", "none"])
def test_products_with_jacobians_are_adjoint_to_each_other(fill: str, pair: str) -> None:
    columns = {key: value for key, value in ALL.items() if key != "bits"}
    net = over(GRAPHS["grid"], columns, {"fill": fill, "pair": pair}, layers=4)
    y, v, w = torch.randn(3, BATCH, net.neurons, dtype=torch.float64)
    with net.linearize(y) as linear:
        pushed, pulled = linear.push(v, 0, 4), linear.pull(w, 4, 0)
    assert float(((pushed * w).sum(dim=1) - (v * pulled).sum(dim=1)).abs().max()) <= 1e-10
    small = 1e-6
    with torch.no_grad():
        difference = (net.eval()(y + small * v) - net(y - small * v)) / (2 * small)
    assert float((difference - pushed).abs().max()) <= 1e-6


def test_backward_bits_round_cotangents_alone() -> None:
    exact = over(GRAPHS["ring"], LOSSY, {}, layers=4, plan="torch")  # the products of the other one
    rounded = over(GRAPHS["ring"], LOSSY | {"bits_back": 8}, {}, layers=4)
    y = torch.randn(BATCH, exact.neurons, dtype=torch.float64)
    outputs, gradients = [], []
    for net in (exact, rounded):
        net.at(step=0)
        start = y.clone().requires_grad_()
        output = net(start)
        (gradient,) = torch.autograd.grad(output.sum(), start)
        outputs.append(output.detach())
        gradients.append(gradient)
    assert torch.equal(*outputs)
    gap = float((gradients[0] - gradients[1]).abs().max())
    assert 0 < gap < 0.1 * float(gradients[0].abs().max())


def received(links: dict[str, Any], x: Tensor, bits: int) -> Tensor:
    """Return what the second of two agents has of slices x (batch, 8) of the first.

    With σ(u) = u and a K that only reads this slice, p of the first agent becomes what was sent, twice rounded.
    """
    net = over(nx.path_graph(2), {"bits": bits}, links, layers=1, width=16, step=1.0, activation=_identity)
    rows, columns = net.scalar_positions("Kq", 0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        dict(net.named_parameters())["Kq.0"].copy_((rows == columns + 8).to(x.dtype)[None])
        state = torch.zeros(len(x), net.neurons, dtype=x.dtype)
        state[:, 8:16] = x
        return -net(state)[:, :8]


def _identity(u: Tensor) -> Tensor:
    return u * 1.0


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_slice_has_no_more_values_than_its_bits_can_tell(bits: int, stochastic: bool) -> None:
    for dtype in (torch.float64,):
        x = torch.randn(300, 8, dtype=dtype)
        values = received({"stochastic": stochastic}, x, bits)
        largest = x.abs().amax(dim=1, keepdim=True)
        assert len((values / largest).round(decimals=9).unique()) <= 2**bits
        assert float((values.abs() / largest).max()) <= 1.0 + 1e-12
        if not stochastic:
            assert (
                float(((values - x).abs() / largest).max())
                <= 1.0 / max(2 ** (bits - 1) - 1, 1) / (1 if bits == 1 else 2) + 1e-12
            )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_stochastic_rounding_is_right_in_the_mean(bits: int) -> None:
    x = torch.randn(1, 8, dtype=torch.float64).expand(20000, -1).contiguous()
    values = received({"stochastic": True}, x, bits)
    largest = int(x[0].abs().argmax())
    error = (values - x).mean(dim=0).abs() / (values.std(dim=0) / len(x) ** 0.5 + 1e-12)
    assert float(values.std(dim=0).max()) > 0 and float((values - x)[:, largest].abs().max()) <= 1e-12
    assert float(error.max()) < 5.0


@pytest.mark.parametrize("pair", ["exchange", "answer", "none"])
def test_an_independent_backward_is_right_in_the_mean(pair: str) -> None:
    """Cotangents lost anew and scaled up have the mean of cotangents that all arrive, at the same impaired states."""
    samples = 40000
    links = {"pair": pair, "backward": "independent"}
    net = over(nx.path_graph(3), {"loss": 0.4}, links, layers=2)
    sure = over(nx.path_graph(3), {"loss": 0.4}, links, layers=2)
    assert sure.links is not None
    y = torch.randn(1, net.neurons, dtype=torch.float64).expand(samples, -1).clone().requires_grad_()
    net.at(step=0)
    (ours,) = torch.autograd.grad(net(y).sum(), y)
    ideal = ideal_backward(sure, y.detach(), net)
    gap = ours - ideal
    error = gap.mean(dim=0).abs() / (gap.std(dim=0) / samples**0.5 + 1e-12)
    assert float(gap.std(dim=0).max()) > 0.01
    assert float(error.max()) < 5.0


def ideal_backward(net: HDNN, y: Tensor, impaired: HDNN) -> Tensor:
    """Return the gradient of the sum of all outputs where forward slices are lost and no cotangent is."""
    oracle = Oracle(impaired)
    oracle.straight = True
    start = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(oracle(start, Moment(True, 0)).sum(), start)
    return gradient


def test_a_dead_agent_is_alone_and_answers_zero() -> None:
    net = over(GRAPHS["ring"], {}, {"dead": (3,)}, layers=6)
    y = torch.randn(BATCH, net.neurons, dtype=torch.float64, requires_grad=True)
    other = y.detach().clone()
    other[:, 6:8] += 1.0  # the columns of agent 3
    with torch.no_grad():
        assert torch.equal(net(y), net(other))
    output = net(y)
    assert not output[:, 6:8].any()
    (gradient,) = torch.autograd.grad(output.sum(), y)
    assert not gradient[:, 6:8].any() and bool((gradient[:, :6] != 0).all())


def test_failout_stops_one_agent_of_a_sample_in_training_alone() -> None:
    net = over(GRAPHS["ring"], {}, {"failout": 0.5}, layers=2)
    y = torch.randn(400, net.neurons, dtype=torch.float64)
    stopped = (net(y).view(400, 8, 2) == 0).all(dim=2).sum(dim=1)
    assert set(stopped.tolist()) == {0, 1} and 150 < int(stopped.sum()) < 250
    net.eval()
    assert bool((net(y) != 0).all())


@pytest.mark.parametrize("graph", ["ring", "grid"])
@pytest.mark.parametrize("options", [{}, {"plan": "tiles"}, {"plan": "torch"}, {"deterministic": True}], ids=str)
def test_links_that_impair_nothing_leave_the_path_and_the_bits_of_no_links(graph: str, options: Any) -> None:
    of_graph = as_graph(GRAPHS[graph])
    perfect = Links(table_of(of_graph, latency=0.01, jitter=0.001, bandwidth=1e6), of_graph.agents, pair="exchange")
    results = []
    for links in (None, perfect):
        net = network(of_graph, links=links, layers=3, **options)
        assert net.links is None
        y = torch.linspace(-1, 1, BATCH * net.neurons, dtype=torch.float64).view(BATCH, -1).requires_grad_()
        output = net(y)
        output.square().sum().backward()
        results.append((net.plan, [output, y.grad, *(parameter.grad for parameter in net.parameters())]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_links_that_lose_nothing_any_more_have_the_numbers_of_no_links() -> None:
    """Strength 0 takes the impaired path and must give the perfect network."""
    lossy = over(GRAPHS["grid"], {"loss": 0.5}, {"strengths": {0: 0.0}}, layers=3)
    perfect = network(as_graph(GRAPHS["grid"]), layers=3)
    y = torch.randn(BATCH, lossy.neurons, dtype=torch.float64)
    assert float((lossy(y) - perfect(y)).abs().max()) <= 1e-12
