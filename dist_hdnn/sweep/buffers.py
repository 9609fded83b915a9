"""Memory of a sweep: every version of the state and what adjoints need, allocated once per batch shape.

In the layers that are kept every update writes a new version of its part and keeps what its adjoint needs, because a
backward sweep will follow; with none kept, parts are overwritten in place and memory does not grow with depth.
Shapes: versions (columns, B) per part; `columns` = owned + ghost neurons of the graph with the largest halo.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from torch import Tensor

from dist_hdnn.dynamics.interconnection import Interconnected
from dist_hdnn.dynamics.layer import LayerSpec
from dist_hdnn.dynamics.use import Term, Use
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, BlockWeights, Saved
from dist_hdnn.sweep.pages import in_huge_pages


class Version:
    """A part of the state between two updates: memory for its owned rows and for the ghosts of those who read it."""

    def __init__(self, memory: Tensor, owned: int) -> None:
        self.memory, self.owned = memory, memory[:owned]
        self.plain = GhostedTensor.without_ghosts(self.owned)
        self.readers: dict[int, GhostedTensor] = {}  # by number of the graph whose ghosts they have


class Buffers:
    """Versions and updates of the layers of `spec`, for states (batch, neurons) like `like`.

    kept: layers whose versions are kept, all or the first ones, whose updates others can take in turn; 0: none.
    reverses: updates can be retraced.
    uses: of every layer, or of the kept ones, its updates in order. boundaries: owned rows of every part before each of
    these and after the last. cotangents: memory for one vector per part, (neurons, B).
    """

    def __init__(self, spec: LayerSpec, like: Tensor, kept: int = 0, reverses: bool = False) -> None:
        self.spec, self.kept, self.batch, self.like = spec, kept, like.shape[0], like.new_empty(0)
        self._K: list[BlockProducts] = []
        self._products: list[BlockProducts] = []  # all of them
        self._terms: list[list[Term]] = []
        for graph in spec.graphs:
            K, X = graph.bound(like)
            self._K.append(K)
            self._products += [K] if X is None else [K, X]
            self._terms.append(spec.terms(K, X))
        pairs = zip(spec.graphs, self._terms, strict=True)
        self._joint = [spec.reversals(c, terms, like) if reverses else [None] * len(terms) for c, terms in pairs]
        self._saved: dict[tuple[int, int], Iterator[Saved]] = {}
        forces = spec.architecture.forces
        owned = spec.graphs[0].K.rows
        largest = max(graph.K.column_neurons for graph in spec.graphs)
        memory = [in_huge_pages(self._K[0].exchange.memory((largest, self.batch), self.like)) for _ in forces]
        self.cotangents = [tensor[:owned] for tensor in memory]
        self._pulled = [Version(tensor, owned) for tensor in memory]
        written = [iter(self._versions(part, owned, largest)) for part in range(len(forces))]
        current = [next(versions) for versions in written]
        self.boundaries: list[Sequence[Tensor]] = [[version.owned for version in current]]
        self.uses: list[list[Use]] = []
        for layer in range(kept or spec.layers):
            s = layer % len(spec.graphs)
            steps = enumerate(spec.architecture.integrator.steps)
            self.uses.append([self._use(s, current, written, number, *step) for number, step in steps])
            self.boundaries.append([version.owned for version in current])

    @property
    def small(self) -> bool:
        """Whether all products are."""
        return all(products.small for products in self._products)

    def interconnected(self, part: int, graph: int, v: Tensor, X: BlockWeights | None) -> Tensor:
        """Apply the interconnection of a part's force alone to owned rows: X v, Xᵀ v, J v, or v if there is none."""
        term = self._terms[graph][part]
        if not isinstance(term, Interconnected):
            return v
        assert X is not None, "an interconnection has weights"
        return term.map.tangent(v, X)

    def _versions(self, part: int, owned: int, largest: int) -> list[Version]:
        """Make all versions of a part in one allocation, with room for ghosts where a term gathers them."""
        architecture = self.spec.architecture
        gathered = any(
            force.source == part and term.reads_ghosts
            for terms in self._terms
            for force, term in zip(architecture.forces, terms, strict=True)
        )
        writes = sum(advanced == part for advanced, _ in architecture.integrator.steps)
        rows = largest if gathered else owned
        shape = (1 + self.kept * writes, rows, self.batch)
        memory = in_huge_pages(self._K[0].exchange.memory(shape, self.like) if gathered else self.like.new_empty(shape))
        return [Version(tensor, owned) for tensor in memory.unbind(0)]

    def _use(
        self,
        s: int,
        current: list[Version],
        written: list[Iterator[Version]],
        number: int,
        part: int,
        coefficient: float,
    ) -> Use:
        """Make the next update, and put the version that it writes into `current`."""
        integrator, force = self.spec.architecture.integrator, self.spec.architecture.forces[part]
        term = self._terms[s][part]
        x, copied = self._read(current[force.source], s, term)
        if (s, part) not in self._saved:
            layers = len(range(s, self.kept, len(self.spec.graphs)))
            uses = layers * sum(advanced == part for advanced, _ in integrator.steps)
            self._saved[s, part] = itertools.cycle(term.saved(uses or 1))
        old = current[part].owned
        if self.kept:
            current[part] = next(written[part])
        dv = self._ghosted(self._pulled[part], s) if term.gathers_cotangent else self._pulled[part].plain
        use = Use(
            force,
            part,
            term,
            x,
            copied,
            next(self._saved[s, part])._replace(update=number),
            (old, current[part].owned),
            (dv, self.cotangents[force.source]),
            None if integrator.replaces else coefficient * self.spec.h * force.sign,
        )
        use.joint = self._joint[s][part]
        return use

    def _read(self, version: Version, s: int, term: Term) -> tuple[GhostedTensor, Tensor | None]:
        """Return the tensor in which a term reads a version, and the rows to copy into it before, if it is a copy."""
        if not term.reads_ghosts:
            return version.plain, None
        if self.kept and version.readers and s not in version.readers:
            return self._K[s].ghosted(), version.owned  # the adjoint must find the ghosts of both graphs
        return self._ghosted(version, s), None  # ghosts of a smaller halo lie in the same rows

    def _ghosted(self, version: Version, s: int) -> GhostedTensor:
        """Bind a version to the exchange of a graph, once."""
        if s not in version.readers:
            version.readers[s] = self._K[s].ghosted(version.memory)
        return version.readers[s]
