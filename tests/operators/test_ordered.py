"""Ordered sums against sums worked out by hand, in numbers whose sum depends on the order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.operators.choice import bind, panels
from dist_hdnn.operators.products import layer_weights
from dist_hdnn.sweep.execution import Execution
from dist_hdnn.topology import complete, neighbours
from dist_hdnn.transport import Transport, run_threads

VALUES = torch.tensor([1e16, 1.0, -1e16, 1.0, 1.0, 3.0], dtype=torch.float64)
ASCENDING = 5.0  # ((((1e16 + 1) - 1e16) + 1) + 1) + 3: the first 1 is lost, as 1e16 has no odd neighbor
OWNERS = {1: [0] * 6, 2: [1, 0, 1, 0, 1, 0], 3: [2, 0, 1, 2, 1, 0]}


@pytest.mark.parametrize("workers", OWNERS)
def test_contributions_to_an_agent_are_summed_in_ascending_order_of_agents(workers: int) -> None:
    assert sum(VALUES.tolist()) == ASCENDING != sum(reversed(VALUES.tolist()))
    graph, single = complete(6), np.ones(6, dtype=np.int64)

    def work(transport: Transport) -> list[float]:
        ownership = Ownership(graph, 2 * single, transport, OWNERS[workers], execution=Execution(deterministic=True))
        matrix, exchange, _ = ownership.operator(neighbours(graph), "test", single)
        operator, like = panels(matrix), VALUES.new_empty(1, matrix.rows)
        products = bind(matrix, exchange, like)
        ones = operator.arrange(VALUES.new_ones(1, matrix.entries), VALUES.new_zeros(1, operator.stored))
        rows = products.rows()[0]
        rows.flat.copy_(VALUES[torch.from_numpy(ownership.agents)][operator.row_order, None])
        summed = products.transposed(layer_weights(operator, ones)[0], rows)
        assert summed is not None
        return summed[: matrix.rows, 0].tolist()  # type: ignore[no-any-return]

    for sums in run_threads(workers, work, timeout=30):
        assert set(sums) == {ASCENDING}
