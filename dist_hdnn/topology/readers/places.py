"""Where agents stand in pictures: the places that a file gives, and between its neighbors who has none.

Files of real networks know most of their sites, hardly ever all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

ENOUGH = 0.5  # share of the agents, beyond which a file's places are those of its network
APART = 0.03  # of the picture's extent, between an agent without a place and the mean of its neighbors
TURN = np.pi * (3 - 5**0.5)  # the golden angle: no two of many directions are alike


def all_places(given: Sequence[Sequence[float] | None], links: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """(agents, 2): the given places, and near the mean of its neighbors each agent without one.

    links: (links, 2). None where half of the agents or more have no place, or one has no way to any that has.
    """
    known = np.array([place is not None for place in given])
    if not known.any() or known.mean() <= ENOUGH:
        return None
    places = np.array([place or (0.0, 0.0) for place in given], dtype=np.float64)
    if known.all():
        return places
    agents, (i, j) = len(given), links.T
    ends = np.concatenate([i, j]), np.concatenate([j, i])
    adjacency = csr_array((np.ones(2 * len(links)), ends), shape=(agents, agents))
    component = connected_components(adjacency)[1]
    if not np.isin(component, component[known]).all():
        return None
    laplacian = (diags_array(adjacency.sum(axis=1)) - adjacency).tocsr()
    free = np.flatnonzero(~known)
    right = -(laplacian[free][:, known] @ places[known])
    places[free] = spsolve(laplacian[free][:, free].tocsc(), right).reshape(-1, 2)
    angle, extent = TURN * np.arange(len(free)), np.ptp(places[known], axis=0).max()
    places[free] += APART * extent * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return places
