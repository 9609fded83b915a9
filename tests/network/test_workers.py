"""The network on several workers: the numbers of one process, and nothing on the wire but what neighbors need."""

import copy
from typing import Any

import networkx as nx
import pytest
import torch
from networks import FAMILY, GRAPHS, PLACEMENTS, minimum_bytes, network, quiet_graph, uneven_widths
from on_workers import BATCH, columns_of, largest_difference, random_owners, same_bits

import dist_hdnn
from dist_hdnn.ends.readout import LocalReadout
from dist_hdnn.transport import Transport, TransportError, run_threads

WORKERS = (1, 2, 3, 4, 8)


CASES = [(name, workers) for name in GRAPHS for workers in WORKERS if workers <= quiet_graph(name).agents]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("name", "workers"), CASES)
def test_parity_with_one_process(name: str, workers: int, placement: str) -> None:
    graph = quiet_graph(name)
    options = {"width": uneven_widths(graph.agents), "layers": 3, "step": 0.4, **PLACEMENTS[placement]}
    owners = random_owners(graph.agents, workers)
    assert largest_difference(graph, workers, owners, **options) <= 1e-12


@pytest.mark.parametrize("workers", [2, 4])
def test_parity_with_cycled_graphs_and_own_x_per_layer(workers: int) -> None:
    graphs = [nx.cycle_graph(8), nx.path_graph(8), nx.star_graph(7)]
    options = {"width": uneven_widths(8), "layers": 7, "K": "neighbours", "X": "neighbours", "shared_x": False}
    assert largest_difference(graphs, workers, random_owners(8, workers), **options) <= 1e-12


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_parity_of_every_architecture_with_one_process(options: dict[str, Any], workers: int) -> None:
    options = {"width": uneven_widths(17), "layers": 3, "step": 0.3, **options}
    assert largest_difference(quiet_graph("random"), workers, random_owners(17, workers), **options) <= 1e-12


@pytest.mark.parametrize("options", [o for o in FAMILY if o.get("integrator") != "semi_implicit"], ids=str)
def test_a_state_that_layers_of_other_graphs_read_keeps_the_ghosts_of_all(options: dict[str, Any]) -> None:
    """The last kick of a layer and the first of the next read the same q, over the links of different graphs."""
    graphs = [nx.cycle_graph(8), nx.path_graph(8), nx.star_graph(7)]
    if options["architecture"] == "hamiltonian":
        options = options | {"shared_x": False}
    elif options.get("X") == "neighbours":
        graphs = [nx.cycle_graph(8)] * 2  # one J for all layers needs one pattern
    options = {"width": uneven_widths(8), "layers": 5, "step": 0.2, "activation": "sigmoid", **options}
    assert largest_difference(graphs, 3, random_owners(8, 3), **options) <= 1e-12


@pytest.mark.parametrize("time", ["shared", 3])
@pytest.mark.parametrize("options", [{"architecture": "hamiltonian"}, {"architecture": "MS2"}], ids=str)
def test_parity_of_weights_that_layers_share(options: dict[str, Any], time: str | int) -> None:
    graphs = [nx.cycle_graph(8), nx.path_graph(8)]
    options = {"width": uneven_widths(8), "layers": 7, "time": time, **options}
    assert largest_difference(graphs, 3, random_owners(8, 3), **options) <= 1e-12
    assert same_bits(quiet_graph("ring"), 3, options | {"deterministic": True})


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_every_deterministic_architecture_gives_the_same_bits(options: dict[str, Any]) -> None:
    options = {"width": uneven_widths(17, widest=5), "layers": 3, "deterministic": True, "step": 0.3, **options}
    assert same_bits(quiet_graph("random"), 3, options)


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_deterministic_networks_give_the_same_bits(placement: str, workers: int) -> None:
    options = {"width": uneven_widths(17, widest=5), "layers": 3, "deterministic": True, **PLACEMENTS[placement]}
    assert largest_difference(quiet_graph("random"), workers, random_owners(17, workers), **options) <= 1e-14
    assert same_bits(quiet_graph("random"), workers, options)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("name", "workers"), [case for case in CASES if case[1] > 1])
def test_bytes_on_the_wire_are_the_analytical_minimum(name: str, workers: int, placement: str) -> None:
    graph = quiet_graph(name)
    options = {"width": uneven_widths(graph.agents), "layers": 3, **PLACEMENTS[placement]}

    def work(transport: Transport) -> tuple[int, int, int]:
        net = network(graph, workers=transport, partition=random_owners(graph.agents, workers), **options)
        y = torch.zeros(BATCH, net.neurons, dtype=torch.float64)
        before = transport.sent()
        net(y).sum().backward()
        sent = int((transport.sent() - before)[:, 1].sum()) - net.ownership.ledger.totals()["check"]["bytes"]
        k_rounds, x_rounds = 2 * 3 * 4, 2 * 3 * 2  # both sweeps of 3 layers
        minimum = k_rounds * minimum_bytes(net, net.K_patterns[0], BATCH)
        if net.X_patterns is not None:
            minimum += x_rounds * minimum_bytes(net, net.X_patterns[0], BATCH)
        traffic = net.traffic()
        assert traffic["non_neighbour_messages"] == 0
        assert traffic["bytes"] == sent
        return sent, minimum, traffic["messages"]

    results = run_threads(workers, work, timeout=60)
    assert sum(sent for sent, _, _ in results) == results[0][1]


def test_one_agent_a_worker_sends_what_the_simulation_counts() -> None:
    whole = network(quiet_graph("ring"), layers=2)
    y = torch.zeros(BATCH, whole.neurons, dtype=torch.float64)
    whole(y).sum().backward()

    def work(transport: Transport) -> dict[str, int]:
        net = network(quiet_graph("ring"), layers=2, workers=transport)
        net(torch.zeros(BATCH, net.neurons, dtype=torch.float64)).sum().backward()
        return net.traffic()

    parts = run_threads(8, work, timeout=60)
    simulated = whole.traffic()
    for name in ("messages", "bytes", "non_neighbour_messages"):
        assert sum(part[name] for part in parts) == simulated[name]


@pytest.mark.parametrize("options", [{}, {"X": "neighbours"}, {"deterministic": True}, {"memory": "reversible"}])
@pytest.mark.parametrize("name", ["ring", "disconnected", "hubs"])
def test_slices_between_agents_are_counted_alike_on_any_workers(name: str, options: dict[str, Any]) -> None:
    graph = quiet_graph(name)
    whole = network(graph, layers=2, **options)
    whole(torch.zeros(BATCH, whole.neurons, dtype=torch.float64)).sum().backward()
    alone, links = whole.traffic(), whole.link_traffic()
    assert (alone["agent_messages"], alone["agent_bytes"]) == (alone["messages"], alone["bytes"])

    def work(transport: Transport) -> tuple[dict[str, int], Any]:
        owners = random_owners(graph.agents, transport.size)
        net = network(graph, layers=2, workers=transport, partition=owners, **options)
        net(torch.zeros(BATCH, net.neurons, dtype=torch.float64)).sum().backward()
        net.ownership.all_reduce(torch.zeros(5), "readout")  # a global sum is no slice
        return net.traffic(), net.link_traffic()

    for workers in (2, 3):
        parts = run_threads(workers, work, timeout=60)
        for key in ("agent_messages", "agent_bytes", "non_neighbour_messages"):
            assert sum(part[key] for part, _ in parts) == alone[key]
        assert (sum(part for _, part in parts) == links).all()


def test_a_local_readout_needs_no_global_message_in_a_step() -> None:
    def work(transport: Transport) -> dict[str, dict[str, int]]:
        net = network(quiet_graph("ring"), layers=2, workers=transport)
        readout = LocalReadout(net.ownership, 2).double()
        before = transport.sent()
        scores = readout(net(torch.zeros(BATCH, net.neurons, dtype=torch.float64)))
        readout.loss(scores, torch.tensor([0, 1, 0])).sum().backward()
        peers = (transport.sent() - before)[:, 0].nonzero()[0].tolist()
        neighbours = {(transport.rank - 1) % 8, (transport.rank + 1) % 8}
        assert set(peers) == neighbours, f"worker {transport.rank} sent to {peers}"
        return net.ownership.ledger.totals()

    for totals in run_threads(8, work, timeout=60):
        assert totals["all"]["collective_messages"] == 0
        assert totals["readout"]["messages"] == totals["metrics"]["messages"] == 0


def test_memory_and_channels_of_batch_sizes_that_do_not_return_are_given_back() -> None:
    def work(transport: Transport) -> list[int]:
        net = network(quiet_graph("ring"), layers=2, workers=transport)
        channels = []
        for batch in range(1, 12):
            net(torch.zeros(batch, net.neurons, dtype=torch.float64)).sum().backward()
            channels.append(len(transport._channels))  # type: ignore[attr-defined]
        return channels

    for channels in run_threads(2, work, timeout=60):
        assert channels[0] < channels[1] and len(set(channels[6:])) == 1


def test_a_copy_on_several_workers_computes_the_same_with_weights_of_its_own() -> None:
    def work(transport: Transport) -> bool:
        net = network(quiet_graph("ring"), layers=2, workers=transport)
        twin = copy.deepcopy(net)
        y = torch.ones(BATCH, net.neurons, dtype=torch.float64)
        same = torch.equal(net(y), twin(y))
        with torch.no_grad():
            twin.bp.add_(1.0)
        return same and not torch.equal(net(y), twin(y))

    assert all(run_threads(2, work, timeout=60))


def test_an_error_of_the_transport_names_worker_peer_layer_and_sweep() -> None:
    def work(transport: Transport) -> None:
        net = network(quiet_graph("ring"), layers=3, workers=transport, check_batches=False)
        output = net(torch.zeros(BATCH, net.neurons, dtype=torch.float64))
        if transport.rank == 0:
            output.sum().backward()

    with pytest.raises(TransportError, match=r"worker 0 lost worker 1 in K gather \(layer 3 of 3, backward\)"):
        run_threads(2, work, timeout=10)


def test_a_partition_that_does_not_fit_is_named() -> None:
    def work(transport: Transport) -> None:
        dist_hdnn.HDNN(dist_hdnn.ring(2), layers=1, workers=transport)

    with pytest.raises(ValueError, match="expected at most 2 workers"):
        run_threads(3, work, timeout=30)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_parity_on_one_gpu_with_slices_staged_through_the_host(placement: str, workers: int) -> None:
    graph, options = quiet_graph("random"), {"width": uneven_widths(17), "layers": 3, **PLACEMENTS[placement]}
    whole = network(graph, **options)
    state = whole.state_dict()
    y = torch.randn(5, whole.neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    output = whole(y)
    output.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in whole.named_parameters()}

    def work(transport: Transport) -> float:
        net = network(graph, workers=transport, partition=random_owners(17, workers), **options)
        net.load_state_dict(state)
        net.to("cuda")
        columns = columns_of(net.owned, whole.widths)
        result = net(y[:, columns].cuda())
        result.square().sum().backward()
        gaps = [float((result.cpu() - output[:, columns]).abs().max())]
        for name, parameter in net.named_parameters():
            gradient, shard = gradients[name], net.shards[name]
            assert gradient is not None and parameter.grad is not None
            mine = gradient.index_select(shard.dimension, torch.from_numpy(shard.index))
            gaps.append(float((parameter.grad.cpu() - mine).abs().max() / mine.abs().max().clamp(min=1)))
        return max(gaps)

    assert max(run_threads(workers, work, timeout=120)) <= 1e-12
