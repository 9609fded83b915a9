"""Methods that share agents out among workers: few ghosts, even loads.

A method maps (adjacency, load, workers, seed) to the owner of every agent, (agents,) int64 in 0..workers-1. adjacency:
(agents, agents) CSR float64, symmetric, no diagonal. load: (agents,) positive. 1 <= workers <= agents. All return the
same owners on every call. Only METIS uses the seed.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csgraph, csr_array, diags_array
from scipy.sparse.linalg import lobpcg

from dist_hdnn.topology.ragged import IntArray

FloatArray = NDArray[np.float64]
Method = Callable[[csr_array, FloatArray, int, int], IntArray]
Order = Callable[[csr_array], IntArray]

SMALL = 200  # agents up to which all eigenvectors at once are faster
STARTS = 4
ITERATIONS = 40


def contiguous(adjacency: csr_array, load: FloatArray, workers: int, seed: int) -> IntArray:
    """Return runs of agents in ascending number, of even loads."""
    done = np.concatenate([[0.0], np.cumsum(load)])  # load before each agent, then all of it
    targets = done[-1] * np.arange(1, workers) / workers
    after = np.clip(np.searchsorted(done, targets), 1, len(load))
    cuts = after - (targets - done[after - 1] < done[after] - targets)  # the nearer side of the target
    nth = np.arange(1, workers)  # every worker gets an agent: at least nth before a cut, workers - nth after it
    cuts = np.maximum.accumulate(np.maximum(cuts - nth, 0)) + nth
    cuts = np.minimum(cuts, len(load) - workers + nth)
    return np.searchsorted(cuts, np.arange(len(load)), side="right").astype(np.int64)


def round_robin(adjacency: csr_array, load: FloatArray, workers: int, seed: int) -> IntArray:
    """Give agent i to worker i modulo workers, the worst case: nearly every neighbor is a ghost."""
    return np.arange(len(load), dtype=np.int64) % workers


def greedy(adjacency: csr_array, load: FloatArray, workers: int, seed: int) -> IntArray:
    """Halve recursively, each half breadth first from an agent at the rim. Fast at any size."""
    return _halved(adjacency, load, workers, _breadth_first)


def spectral(adjacency: csr_array, load: FloatArray, workers: int, seed: int) -> IntArray:
    """Halve recursively along the Fiedler vector. Source: Pothen, Simon, Liou, SIAM J. Matrix Anal. Appl. 11, 1990."""
    return _halved(adjacency, load, workers, _fiedler)


def metis(adjacency: csr_array, load: FloatArray, workers: int, seed: int) -> IntArray:
    """Partition by METIS, k-way, for the least volume. Needs pymetis.

    Source: Karypis and Kumar, SIAM J. Sci. Comput. 20, 1998.
    """
    try:
        import pymetis
    except ImportError as error:
        raise ValueError(
            'partition metis: expected the package pymetis, got none; pip install pymetis, or take method="spectral"'
        ) from error
    agents = len(load)
    if workers == agents:
        return np.arange(agents, dtype=np.int64)
    number = pymetis.zero_copy_dtype()
    scale = min(1000.0, 2**30 / agents) / load.mean()  # METIS wants whole numbers and may sum them in 32 bits
    _, owners = pymetis.part_graph(
        workers,
        pymetis.CSRAdjacency(adjacency.indptr.astype(number), adjacency.indices.astype(number)),
        vweights=np.maximum(load * scale, 1).astype(number),
        options=pymetis.Options(objtype=int(pymetis.ObjType.VOL), seed=seed % 2**31),
        recursive=False,
    )
    return _without_idle_workers(np.array(owners, dtype=np.int64), load, workers)


METHODS: dict[str, Method] = {
    "contiguous": contiguous,
    "round_robin": round_robin,
    "spectral": spectral,
    "greedy": greedy,
    "metis": metis,
}


def _halved(adjacency: csr_array, load: FloatArray, workers: int, order: Order) -> IntArray:
    """Cut agents in two, in proportion to the workers on either side, until every part has one worker."""
    owners = np.zeros(len(load), dtype=np.int64)
    parts = [(np.arange(len(load)), 0, workers)]
    while parts:
        agents, first, count = parts.pop()
        if count == 1 or count == len(agents):
            owners[agents] = first if count == 1 else np.arange(first, first + count)
            continue
        left = count // 2
        share = load[agents].sum() * left / count
        line = agents[_line(adjacency[agents][:, agents], load[agents], share, order)]
        before = np.concatenate([[0.0], np.cumsum(load[line])])
        size = int(np.clip(np.abs(before - share).argmin(), left, len(agents) - (count - left)))
        parts += [(np.sort(line[:size]), first, left), (np.sort(line[size:]), first + left, count - left)]
    return owners


def _line(adjacency: csr_array, load: FloatArray, share: float, order: Order) -> IntArray:
    """Return all agents in a line to cut at load `share`: components, lightest first, the one to be cut in `order`."""
    _, component = csgraph.connected_components(adjacency, directed=False)
    weight = np.bincount(component, load)
    by_weight = np.argsort(weight, kind="stable")
    place = np.argsort(by_weight)[component]
    line = np.argsort(place, kind="stable")
    cut = min(np.searchsorted(np.cumsum(weight[by_weight]), share), len(weight) - 1)
    members = np.flatnonzero(place == cut)
    line[place[line] == cut] = members[order(adjacency[members][:, members])]
    return line


def _breadth_first(adjacency: csr_array) -> IntArray:
    """Return the agents of a connected graph by hops from one near its rim, where another search has ended."""
    order = np.zeros(1, dtype=np.int64)
    for _ in range(3):  # the end of a search lies far out, so the third starts near the rim
        order = csgraph.breadth_first_order(adjacency, order[-1], return_predecessors=False)
    return order


def _fiedler(adjacency: csr_array) -> IntArray:
    """Return the agents of a connected graph by their entry in the second eigenvector of its Laplacian.

    Only the order counts, so LOBPCG improves breadth-first orders for a bounded number of steps, converged or not.
    Shift-and-invert Lanczos (eigsh) is no better on grids, and its factors fill the memory on random graphs.
    """
    agents = adjacency.shape[0]
    if agents <= SMALL:
        vector = eigh(csgraph.laplacian(adjacency.toarray()), subset_by_index=[0, min(1, agents - 1)])[1][:, -1]
    else:
        laplacian = csr_array(csgraph.laplacian(adjacency))
        start = np.empty((agents, STARTS))
        rim = _breadth_first(adjacency)
        for k in range(STARTS):
            source = rim[k * (agents // STARTS)]
            start[csgraph.breadth_first_order(adjacency, source, return_predecessors=False), k] = np.arange(agents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # not converged
            vector = lobpcg(
                laplacian,
                start - start.mean(axis=0),
                M=diags_array(1 / laplacian.diagonal()),
                Y=np.ones((agents, 1)),
                tol=1e-4,
                maxiter=ITERATIONS,
                largest=False,
            )[1][:, 0]
    return np.argsort(vector, kind="stable")


def _without_idle_workers(owners: IntArray, load: FloatArray, workers: int) -> IntArray:
    """Give each worker that METIS left empty the lightest agent of the busiest worker with two or more."""
    for idle in np.setdiff1d(np.arange(workers), owners):
        busy = np.bincount(owners, load, minlength=workers)
        busy[np.bincount(owners, minlength=workers) < 2] = -1.0
        agents = np.flatnonzero(owners == busy.argmax())
        owners[agents[load[agents].argmin()]] = idle
    return owners
