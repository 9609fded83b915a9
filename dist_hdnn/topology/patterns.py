"""Block patterns: the blocks of K (pattern R) and of X (pattern T) that may be non-zero, agents x agents 0/1 in CSR.

Entry (i, j) means that row block i of the matrix reads the slice of agent j.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csgraph, csr_array, eye_array, issparse

from dist_hdnn.topology.graphs import CommunicationGraph, whole_number
from dist_hdnn.topology.ragged import IntArray

# 2 GiB of column numbers. The weights of one layer would be 8 GiB more at least (2 x 2 blocks, float64).
MOST_ENTRIES = 2**28
MOST_PRODUCTS = 2**31


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """An agents x agents 0/1 pattern in compressed rows.

    row_start: (agents + 1,) int64. columns: (entries,) int64, ascending in each row, no repeats. Both are read-only.
    kind: for reports. Raises ValueError when the arrays break these rules.
    """

    row_start: IntArray
    columns: IntArray
    kind: str

    def __post_init__(self) -> None:
        for field in ("row_start", "columns"):
            array = np.array(getattr(self, field), dtype=np.int64)
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        start, columns = self.row_start, self.columns
        shaped = start.ndim == columns.ndim == 1 and len(start) > 1 and start[0] == 0 and start[-1] == len(columns)
        if not shaped or np.any(np.diff(start) < 0):
            raise ValueError(
                f"pattern {self.kind}: expected row starts that rise from 0 to {len(columns)}, one more than agents, "
                f"got {len(start)} of them; check row_start"
            )
        inside = np.all((columns >= 0) & (columns < self.agents))
        if not inside or np.any(np.diff(self._keys) <= 0):
            raise ValueError(
                f"pattern {self.kind}: expected columns 0..{self.agents - 1}, ascending in each row, got others; "
                "sort them and drop repeats"
            )

    @property
    def agents(self) -> int:
        """The number of rows and of columns."""
        return len(self.row_start) - 1

    @property
    def entries(self) -> int:
        """The number of ones: blocks that may be non-zero."""
        return len(self.columns)

    @property
    def density(self) -> float:
        """entries / agents^2."""
        return self.entries / self.agents**2

    @cached_property
    def links_used(self) -> int:
        """The number of unordered pairs i != j with entry (i, j) or (j, i)."""
        either = self.to_scipy() + self.to_scipy().T
        return int(either.nnz - either.diagonal().sum()) // 2

    @property
    def is_block_diagonal(self) -> bool:
        """True where no agent needs anything from another."""
        return bool(np.all(self.rows() == self.columns))

    @property
    def _keys(self) -> IntArray:
        """One number per entry, row * agents + column, ascending: (entries,)."""
        return self.rows() * self.agents + self.columns

    def rows(self) -> IntArray:
        """Return the row agent of every entry: (entries,)."""
        return np.repeat(np.arange(self.agents, dtype=np.int64), np.diff(self.row_start))

    def transpose(self) -> "BlockPattern":
        """Return the pattern of the transposed matrix."""
        return _from_sparse(self.to_scipy().T.tocsr(), f"{self.kind}, transposed")

    def to_scipy(self) -> csr_array:
        """Return the pattern as (agents, agents) bool."""
        shape = (self.agents, self.agents)
        return csr_array((np.ones(self.entries, np.bool_), self.columns, self.row_start), shape=shape)

    def check_agents(self, agents: int) -> None:
        """Raise ValueError when the pattern is for another number of agents."""
        if agents != self.agents:
            raise ValueError(
                f"pattern {self.kind}: expected {agents} agents, got {self.agents}; "
                "build the pattern for the same graph"
            )

    def contains(self, other: "BlockPattern") -> bool:
        """Return whether every entry of `other` is an entry here (other <= self)."""
        other.check_agents(self.agents)
        return bool(self.to_scipy().multiply(other.to_scipy()).nnz == other.entries)


def neighbours(graph: CommunicationGraph) -> BlockPattern:
    """Return adjacency plus identity: every agent reads itself and its neighbors. The paper's S, and the usual R."""
    return _from_sparse(_with_self(graph), "neighbours")


def hops(graph: CommunicationGraph, k: int) -> BlockPattern:
    """Return the pattern of all agents at most k >= 0 hops away. k = 1 is `neighbours`."""
    k = whole_number("hops", "k", k, 0)
    one = _with_self(graph)
    reached = csr_array(eye_array(graph.agents, dtype=np.bool_))
    for _ in range(k):
        grown = _product(reached, one, f"hops={k}")
        if grown.nnz == reached.nnz:
            break
        reached = grown
    return _from_sparse(reached, f"hops={k}")


def block_diagonal(agents: int) -> BlockPattern:
    """Return the pattern without communication: every agent reads itself only."""
    agents = whole_number("block_diagonal", "agents", agents, 1)
    return BlockPattern(np.arange(agents + 1), np.arange(agents), "block_diagonal")


def dense(agents: int) -> BlockPattern:
    """Return the pattern of the centralized network: every agent reads every agent."""
    agents = whole_number("dense", "agents", agents, 1)
    _bearable("dense", agents**2)
    return BlockPattern(np.arange(agents + 1) * agents, np.tile(np.arange(agents), agents), "dense")


def from_matrix(graph: CommunicationGraph, matrix: ArrayLike | csr_array, kind: str = "matrix") -> BlockPattern:
    """Return the pattern of a 0/1 matrix, dense or scipy.sparse, by agent number. The diagonal may have zeros.

    Raises ValueError for a wrong shape, entries that are not 0 or 1, and an entry between agents that are not linked.
    """
    entries: Any = matrix if issparse(matrix) else np.asarray(matrix)
    agents = graph.agents
    if entries.shape != (agents, agents):
        raise ValueError(
            f"pattern {kind}: expected a matrix of shape ({agents}, {agents}) for {graph.name}, got {entries.shape}; "
            "give one row and one column per agent"
        )
    if entries.dtype.kind not in "buif":
        raise ValueError(f"pattern {kind}: expected entries 0 or 1, got entries of type {entries.dtype}; write 0 and 1")
    sparse = csr_array(entries, copy=True)
    sparse.sum_duplicates()
    if np.any(bad := (sparse.data != 0) & (sparse.data != 1)):
        value = sparse.data[bad][0]
        raise ValueError(f"pattern {kind}: expected entries 0 or 1, got {value} ({bad.sum()} in all); write 0 and 1")
    sparse.eliminate_zeros()
    pattern = _from_sparse(sparse, kind)
    beyond = non_links(pattern, graph)
    if len(beyond):
        i, j = beyond[0].tolist()
        others = f" ({len(beyond) - 1} more such blocks)" if len(beyond) > 1 else ""
        raise ValueError(
            f"pattern {kind}: block ({i}, {j}) is set but agents {i} and {j} are not linked in {graph.name}{others}; "
            f"neighbors of {i}: {_shortened(graph.neighbours(i))}; add the link, or build the pattern with hops=2"
        )
    return pattern


def thinned(graph: CommunicationGraph, keep: float, seed: int = 0, spanning_forest: bool = False) -> BlockPattern:
    """Return the diagonal and round(keep * links) random links, both directions of each.

    Nested: for one graph and seed a smaller keep gives a subset, as links are kept from the front of one random order.
    spanning_forest: put a random spanning forest first in that order and keep it whole, so that the pattern has the
    components of the graph. At least agents - components links are kept then.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float | np.floating) or not 0 <= keep <= 1:
        raise ValueError(f"thinned: expected keep, the fraction of links, from 0 to 1, got {keep!r}; change keep")
    seed = whole_number("thinned", "seed", seed, 0, 2**63 - 1)
    # Raw bits of a bit generator never change between versions of numpy, its permutations may.
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(graph.links)), kind="stable")
    count = round(keep * len(order))
    if spanning_forest:
        in_forest = np.zeros(len(order), dtype=bool)
        in_forest[_forest(graph, order)] = True
        order = np.concatenate([order[in_forest[order]], order[~in_forest[order]]])
        count = max(count, int(in_forest.sum()))
    fewer = replace(graph, links=graph.links[np.sort(order[:count])])
    forest = ", spanning_forest" if spanning_forest else ""
    return _from_sparse(_with_self(fewer), f"thinned(keep={keep:g}, seed={seed}{forest})")


def non_links(pattern: BlockPattern, graph: CommunicationGraph) -> IntArray:
    """Return (m, 2), sorted: the off-diagonal entries (i, j) of the pattern between agents that are not linked."""
    pattern.check_agents(graph.agents)
    beyond = np.setdiff1d(pattern._keys, neighbours(graph)._keys, assume_unique=True)
    pairs = np.column_stack(np.divmod(beyond, graph.agents))
    proper: IntArray = pairs[pairs[:, 0] != pairs[:, 1]]
    return proper


def is_locally_computable(T: BlockPattern, R: BlockPattern, S: BlockPattern | CommunicationGraph) -> bool:
    """Return the paper's test T RᵀR <= S, for one exchange per half step when agents may share rows of K.

    T, R: patterns of X and K. S: the pairs that may talk. A graph stands for its adjacency plus identity. This library
    needs only R <= S and T <= S, as it makes two exchanges. Source: arXiv:2105.13205, distributed H-DNNs.
    """
    allowed = neighbours(S) if isinstance(S, CommunicationGraph) else S
    T.check_agents(allowed.agents)
    R.check_agents(allowed.agents)
    t, r, s = T.to_scipy(), R.to_scipy(), allowed.to_scipy()
    rows = max(1, 2**24 // allowed.agents)  # the product may be dense: bounded memory, and an early no
    for first in range(0, allowed.agents, rows):
        part = slice(first, first + rows)
        product = t[part] @ r.T @ r
        if product.multiply(s[part]).nnz < product.nnz:
            return False
    return True


def _with_self(graph: CommunicationGraph) -> csr_array:
    return csr_array(graph.adjacency() + eye_array(graph.agents, dtype=np.bool_, format="csr"))


def _forest(graph: CommunicationGraph, order: IntArray) -> IntArray:
    """Return the links of the spanning forest that takes links greedily in this order (Kruskal)."""
    place = np.empty(len(order), dtype=np.float64)
    place[order] = np.arange(1, len(order) + 1)  # from 1: a stored zero is no link
    i, j = graph.links.T
    tree = csgraph.minimum_spanning_tree(csr_array((place, (i, j)), shape=(graph.agents, graph.agents)))
    numbers: IntArray = order[tree.data.astype(np.int64) - 1]
    return numbers


def _product(a: csr_array, b: csr_array, kind: str) -> csr_array:
    """Return the boolean product. ValueError for one that would fill the memory."""
    work = int(np.diff(b.indptr).astype(np.int64)[a.indices].sum())
    if min(work, a.shape[0] * b.shape[1]) > MOST_PRODUCTS:
        raise ValueError(f"pattern {kind}: expected a sparse result, got up to {work} blocks; use fewer hops")
    product = csr_array(a @ b)
    _bearable(kind, product.nnz)
    return product


def _bearable(kind: str, entries: int) -> None:
    if entries > MOST_ENTRIES:
        raise ValueError(
            f"pattern {kind}: expected at most {MOST_ENTRIES} blocks, got {entries}; use a sparser pattern"
        )


def _from_sparse(matrix: csr_array, kind: str) -> BlockPattern:
    matrix.sort_indices()
    return BlockPattern(matrix.indptr, matrix.indices, kind)


def _shortened(agents: list[int]) -> str:
    return f"[{', '.join(map(str, agents[:12]))}{', ...' if len(agents) > 12 else ''}]"
