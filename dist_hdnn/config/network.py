"""Options of the network itself: communication graph, block patterns, layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FAMILY_OPTIONS: dict[str, tuple[str, ...]] = {
    "grid": ("rows", "columns"),
    "torus": ("rows", "columns"),
    "balanced_tree": ("branching", "height"),
    "erdos_renyi": ("probability", "seed"),
    "watts_strogatz": ("neighbours", "probability", "seed"),
    "barabasi_albert": ("attachments", "seed"),
    "random_regular": ("degree", "seed"),
    "hypercube": ("dimension",),
}
"""Family of graphs -> the options that it reads, other than `agents` alone."""

Family = Literal[
    "path",
    "ring",
    "star",
    "grid",
    "torus",
    "complete",
    "barbell",
    "balanced_tree",
    "erdos_renyi",
    "watts_strogatz",
    "barabasi_albert",
    "random_regular",
    "hypercube",
    "exponential_ring",
]


@dataclass
class GraphConfig:
    """The communication graph: a file, or a family of graphs and its size."""

    family: Family = "ring"
    """family of graphs; not used when file is given"""
    agents: int = 8
    """number of agents; grid, torus, balanced_tree and hypercube derive their own sizes from it"""
    rows: int | None = None
    """rows of grid and torus; with columns it replaces agents (default: as square as agents allow)"""
    columns: int | None = None
    """columns of grid and torus"""
    branching: int = 2
    """children of every inner agent of balanced_tree"""
    height: int | None = None
    """links from the root to a leaf of balanced_tree; replaces agents"""
    dimension: int | None = None
    """dimension of hypercube; replaces agents"""
    neighbours: int = 4
    """nearest neighbors of every agent of watts_strogatz, before rewiring"""
    attachments: int = 2
    """links of every new agent of barabasi_albert"""
    degree: int = 3
    """links of every agent of random_regular"""
    probability: float = 0.3
    """probability of a link (erdos_renyi) or of rewiring one (watts_strogatz)"""
    seed: int | None = None
    """seed of the random families (default: the seed of the run)"""
    file: str | None = None
    """graph file (.graphml .gml .gexf .edges .csv .tsv .json .net .dot .mtx and more, .gz: docs/graphs.md), relative
    to the current directory"""
    format: str | None = None
    """format of file, when its name does not tell: graphml, gexf, gml, json, edgelist, csv, adjlist, matrix, mtx, dot,
    pajek, metis, repetita, graph6, sparse6, xgmml, sif, sndlib, sndlib-native, core, matpower, lgl, gdf, brite,
    fnss"""


@dataclass
class PatternConfig:
    """Pattern of the blocks (agents x agents) of a weight matrix that may be non-zero."""

    kind: Literal["neighbours", "hops", "block_diagonal", "dense", "thinned", "matrix", "identity"] = "neighbours"
    """neighbours: own block and linked agents; identity: not trained, for X only"""
    hops: int = 2
    """reach of kind=hops"""
    keep: float = 0.5
    """fraction of the links that kind=thinned keeps"""
    seed: int | None = None
    """seed of kind=thinned (default: the seed of the run)"""
    spanning_forest: bool = False
    """let kind=thinned keep a spanning forest, so that it cuts no connection"""
    file: str | None = None
    """0/1 matrix (.csv or .npy) of kind=matrix"""


ArchitectureName = Literal[
    "hamiltonian",
    "H1",
    "MS1",
    "MS2",
    "MS3",
    "antisymmetric",
    "verlet",
    "leapfrog",
    "near_identity",
    "resnet",
    "mlp",
]
IntegratorName = Literal["semi_implicit", "stormer_verlet", "yoshida4", "forward_euler", "layer_map"]


@dataclass
class NetworkConfig:
    """The network."""

    architecture: ArchitectureName = "hamiltonian"
    """family of layers; mlp and resnet are for comparison"""
    integrator: IntegratorName | None = None
    """how a layer advances the state (default: as published, semi_implicit or forward_euler)"""
    gamma: float = 0.0
    """damping of the architecture antisymmetric"""
    J: Literal["J1", "J2", "trained"] = "J1"
    """skew matrix of the architecture H1; J2 and trained on the pattern X"""
    time: int | Literal["free", "shared"] = "free"
    """weights of the layers: a set each, one set for all, or a number of sets, linear in time between them"""
    width: int | dict[str, int] = 2
    """neurons of every agent, an even number; or a mapping agent -> neurons"""
    layers: int = 16
    """number of integrator steps"""
    step: float = 0.5
    """step size h of the integrator"""
    activation: str = "tanh"
    """elementwise function of every layer: tanh, sigmoid, arctan, sin, softplus, silu, gelu"""
    K: PatternConfig = field(default_factory=PatternConfig)
    """block pattern R of the trained weights K"""
    X: PatternConfig = field(default_factory=lambda: PatternConfig(kind="identity"))
    """block pattern T of the interconnection X; identity: fixed"""
    shared_x: bool = True
    """one X for all layers; false: one per layer, which gives up that the network as a whole is symplectic"""
    initial: Literal["random", "wave"] = "random"
    """first values of K: random; wave: those of a wave equation on the graph, for signals that cross many hops, with
    the architectures hamiltonian (without X), MS3 and leapfrog"""
    initial_scale: float = 1.2
    """standard deviation of K x at the start, for x of unit variance"""
    memory: Literal["store", "recompute", "reversible"] = "store"
    """what a training step keeps for its backward sweep: every state, some of them, or the last one alone, from which
    the others are rebuilt; slower modes need less memory"""
    keep_every: int | None = None
    """layers from one kept state to the next (default: of recompute about the root of layers, of reversible none)"""
    keep_dtype: Literal["float32", "bfloat16"] | None = None
    """format of kept states: bfloat16 takes half the memory, gradients are off by some thousandths (default: dtype)"""
