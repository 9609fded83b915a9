"""How far and how densely agents are coupled: the axis against which studies draw their accuracies."""

from __future__ import annotations

import pytest

from dist_hdnn.config.files import read_config
from dist_hdnn.inspection import coupling

BOTH = ("--network.K.kind=block_diagonal", "--network.X.kind=neighbours")


@pytest.mark.parametrize(
    ("options", "links", "hops"),
    [
        ((), 8, 12),
        (("--network.K.kind=block_diagonal",), 0, 0),
        (("--network.K.kind=dense",), 28, 12),
        (("--network.K.kind=hops",), 16, 24),
        (("--network.K.kind=thinned", "--network.K.keep=0.5"), 4, 12),
        (BOTH, 8, 6),
        (("--network.X.kind=neighbours",), 8, 18),
        (("--network.architecture=MS2",), 8, 6),
        (("--graph.agents=1",), 0, 0),
    ],
)
def test_pairs_that_exchange_are_counted_once_and_density_is_their_share(
    options: tuple[str, ...], links: int, hops: int
) -> None:
    config = read_config(overrides=["--network.layers=3", "--graph.agents=8", *options])
    found = coupling(config)
    pairs = config.graph.agents * (config.graph.agents - 1) // 2
    assert (found["links_used"], found["reach"]) == (links, hops)
    assert found["density"] == (links / pairs if pairs else 0.0)
    assert found["diameter"] == config.graph.agents // 2 and found["diameter_exact"]
