"""The order in which one worker keeps its agents in memory: neighbors near each other, so that caches find them.

Nothing but memory follows it. Numbers of agents, columns of states, weights and messages stay as they are, and so do
the orders of sums, hence the bits of states and gradients. (PyTorch computes the last elements of a tensor in another
way, so bits of another σ than tanh may follow places, as they follow partitions, where the batch is no multiple of 16.)
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csgraph, csr_array

from dist_hdnn.topology.patterns import BlockPattern
from dist_hdnn.topology.ragged import IntArray

NEURONS = 1 << 13  # of one part, below which all slices of a usual batch stay in the cache, whatever their order
NEARER = 4.0  # how many times nearer neighbors must come: a ring or a torus is best as it is


def memory_order(patterns: Sequence[BlockPattern], owned: IntArray, neurons: int) -> IntArray | None:
    """Return the owned agents, as positions in `owned`, in the order of their rows in memory; None to keep theirs.

    patterns: of all matrices. owned: agents of this worker, ascending. neurons: rows of all owned agents in one part of
    the state. The order is that of Cuthill and McKee, reversed, for the owned agents alone.
    """
    if neurons < NEURONS:
        return None
    rows, columns = (np.concatenate(ends) for ends in zip(*(_within(each, owned) for each in patterns), strict=True))
    links = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(len(owned), len(owned)))
    order = csgraph.reverse_cuthill_mckee(csr_array(links + links.T), symmetric_mode=True).astype(np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    distances = np.abs(rows - columns).sum(), np.abs(place[rows] - place[columns]).sum()
    return order if distances[0] > NEARER * distances[1] else None


def _within(pattern: BlockPattern, owned: IntArray) -> tuple[IntArray, IntArray]:
    """Return row and column of the blocks between owned agents, as positions in `owned`."""
    place = np.full(pattern.agents, -1, dtype=np.int64)
    place[owned] = np.arange(len(owned))
    rows, columns = place[pattern.rows()], place[pattern.columns]
    here = (rows >= 0) & (columns >= 0)
    return rows[here], columns[here]
