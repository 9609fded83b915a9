"""How far and how densely agents are coupled: the axis against which studies draw their accuracies."""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest

from dist_hdnn import HDNN, grid
from dist_hdnn.build import assembly
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.inspection import exchanged
from dist_hdnn.topology import block_diagonal, dense, exchange_graph, hops, neighbours, reach_warnings, ring, thinned

BOTH = ("--network.K.kind=block_diagonal", "--network.X.kind=neighbours")
THINNED = ("--graph.family=grid", "--graph.agents=16", "--network.K.kind=thinned", "--network.K.seed=0")


def coupled(*options: str) -> dict[str, Any]:
    config = read_config(overrides=["--network.layers=3", "--graph.agents=8", *options])
    return exchanged(config, assembly.build_layout(config), assembly.build_dataset(config))


@pytest.mark.parametrize(
    ("options", "links", "reach", "diameter", "components"),
    [
        ((), 8, 12, 4, 1),
        (("--network.K.kind=block_diagonal",), 0, 0, 0, 8),
        (("--network.K.kind=dense",), 28, 12, 1, 1),
        (("--network.K.kind=hops",), 16, 12, 2, 1),
        (("--network.K.kind=thinned", "--network.K.keep=0.875"), 7, 12, 7, 1),
        (BOTH, 8, 6, 4, 1),
        (("--network.X.kind=neighbours",), 8, 18, 4, 1),
        (("--network.architecture=MS2",), 8, 6, 4, 1),
        (("--graph.agents=1",), 0, 0, 0, 1),
        (("--graph.family=path", "--more_graphs=[{family: ring}]"), 8, 12, 4, 1),
    ],
)
def test_figures_are_of_the_pairs_that_exchange(
    options: tuple[str, ...], links: int, reach: int, diameter: int, components: int
) -> None:
    found = coupled(*options)
    agents = 1 if "--graph.agents=1" in options else 8
    pairs = agents * (agents - 1) // 2
    assert (found["links_used"], found["reach"]) == (links, reach)
    assert found["density"] == (links / pairs if pairs else 0.0)
    assert (found["diameter"], found["diameter_exact"], found["components"]) == (diameter, True, components)


@pytest.mark.parametrize("seed", range(4))
def test_diameter_and_components_of_a_thinned_pattern_are_its_own(seed: int) -> None:
    found = coupled(*THINNED, f"--network.K.seed={seed}")
    kept = nx.from_scipy_sparse_array(thinned(grid(4, 4), 0.5, seed).to_scipy().astype(np.int64))
    kept.remove_edges_from(nx.selfloop_edges(kept))
    parts = sorted((kept.subgraph(part) for part in nx.connected_components(kept)), key=len)
    assert found["links_used"] == kept.number_of_edges() == 12
    assert found["components"] == len(parts) > 1
    assert found["diameter"] in {nx.diameter(part) for part in parts if len(part) == len(parts[-1])}
    joined = coupled(*THINNED, f"--network.K.seed={seed}", "--network.K.spanning_forest=true")
    assert joined["components"] == 1 and joined["links_used"] == 15 and joined["diameter"] > 6


def test_pairs_that_exchange_are_the_graph_itself_where_they_are_its_links() -> None:
    graph = ring(6)
    assert exchange_graph(graph, [neighbours(graph), block_diagonal(6)]) is graph
    both = exchange_graph(graph, [hops(graph, 2), dense(6), block_diagonal(6)])
    assert len(both.links) == 15 and both.name == "hops=2 and dense on ring(6)" and both.names == graph.names
    with pytest.raises(ValueError, match="expected 6 agents, got 7"):
        exchange_graph(graph, [dense(7)])


def test_a_pattern_that_falls_apart_is_a_warning_of_inspect_and_of_the_network() -> None:
    line = (
        "thinned(keep=0.5, seed=0) on grid(4, 4): falls into 4 parts, the largest of 10 agents, where the graph has 1;"
    )
    config = read_config(overrides=[*THINNED, "--data.samples=40"])
    (said,) = tasks.inspect(config)["warnings"]
    assert said.startswith(line) and "spanning_forest" in said
    spec = {"kind": "thinned", "keep": 0.5}
    with pytest.warns(UserWarning, match="falls into 4 parts, the largest of 10 agents"):
        HDNN(grid(4, 4), K=spec, layers=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HDNN(grid(4, 4), K=spec | {"spanning_forest": True}, layers=8)
        HDNN(grid(4, 4), K="neighbours", layers=8)


def test_depth_is_compared_with_the_diameter_of_the_pattern() -> None:
    graph = ring(40)
    assert reach_warnings(graph, [neighbours(graph)], 5) == []
    (short,) = reach_warnings(graph, [thinned(graph, 0.975)], 5)
    assert "information travels at most 20 hops in 5 layers (4 each) but the diameter is 39" in short
    assert reach_warnings(graph, [hops(graph, 4)], 2) == []
    assert "couple agents" in reach_warnings(graph, [block_diagonal(40)], 5, 0)[0]
