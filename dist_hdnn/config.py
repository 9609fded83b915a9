"""What a run is: typed, documented options.

The text under each field is what `dist-hdnn train --help` shows. This module imports neither torch nor numpy, so that
`--help` answers at once. `config_file` reads YAML files and command lines into a `Config`,
`config_checks` says what is wrong with one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

TABLES = ("wine", "breast_cancer", "diabetes")
"""Tables that ship with scikit-learn."""
PUBLISHED = ("mnist", "fashion_mnist")
"""Data sets that can be downloaded."""

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
"""What some families of graphs read besides `agents`."""

Family = Literal[
    "path",
    "ring",
    "star",
    "grid",
    "torus",
    "complete",
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
    """nearest neighbours of every agent of watts_strogatz, before rewiring"""
    attachments: int = 2
    """links of every new agent of barabasi_albert"""
    degree: int = 3
    """links of every agent of random_regular"""
    probability: float = 0.3
    """probability of a link (erdos_renyi) or of rewiring one (watts_strogatz)"""
    seed: int = 0
    """seed of the random families"""
    file: str | None = None
    """graph file (.graphml .gml .edges .edgelist .txt .csv .adj .adjlist .json), relative to the current directory"""
    format: Literal["graphml", "gml", "edgelist", "adjlist", "json"] | None = None
    """format of file, when its name does not tell"""


@dataclass
class PatternConfig:
    """Which blocks (agents x agents) of a weight matrix may be non-zero."""

    kind: Literal["neighbours", "hops", "block_diagonal", "dense", "thinned", "matrix", "identity"] = "neighbours"
    """neighbours: own block and linked agents; identity: not trained, for X only"""
    hops: int = 2
    """reach of kind=hops"""
    keep: float = 0.5
    """fraction of the links that kind=thinned keeps"""
    seed: int = 0
    """seed of kind=thinned"""
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
    initial_scale: float = 1.2
    """standard deviation of K x at the start, for x of unit variance"""
    memory: Literal["store", "recompute", "reversible"] = "store"
    """what a training step keeps for its backward sweep: every state, some of them, or the last one alone, from which
    the others are rebuilt; the slower, the less memory"""
    keep_every: int | None = None
    """layers from one kept state to the next (default: of recompute about the root of layers, of reversible none)"""


@dataclass
class AugmentConfig:
    """Random changes of training images."""

    shift: float = 0.0
    """largest shift, in pixels"""
    rotate: float = 0.0
    """largest turn, in degrees"""
    scale: float = 0.0
    """largest zoom in or out, as a share of the size"""


@dataclass
class DataConfig:
    """Inputs and labels."""

    name: Literal[
        "swiss_roll",
        "double_circles",
        "double_moons",
        "digits",
        "wine",
        "breast_cancer",
        "diabetes",
        "mnist",
        "fashion_mnist",
        "idx",
        "file",
    ] = "swiss_roll"
    """data set; digits, wine, breast_cancer, diabetes ship with scikit-learn; idx: IDX files of your own in folder"""
    samples: int = 8000
    """points of a generated data set, training and test together"""
    noise: float = 0.0
    """standard deviation of the noise of a generated data set"""
    split: Literal["alternate", "random", "last"] = "alternate"
    """alternate: every second point is a test point, as published; random: a held-out split; last: of a time series"""
    test_fraction: float = 0.5
    """share of the test points when split=random or last"""
    seed: int = 0
    """seed of noise and split"""
    file: str | None = None
    """.csv, .parquet or .npz file, or folder of .npy files, of name=file, relative to the current directory"""
    classes: int | None = None
    """number of classes in file or idx (default: highest label + 1)"""
    target: str = "label"
    """column of a table that holds the labels or the real targets"""
    task: Literal["classification", "regression"] = "classification"
    """what file asks for: classes, or real targets"""
    window: int = 1
    """rows of a time series that a sample sees, up to its own"""
    ahead: int = 0
    """rows of a time series from a sample to its target"""
    sensors: dict[str, int | str] | None = None
    """column of a table -> number or name of the agent that sees it (default: spread evenly)"""
    folder: str | None = None
    """folder of the four IDX files of mnist, fashion_mnist or idx, plain or gzipped (default: data/NAME, the cache)"""
    download: bool = False
    """fetch mnist or fashion_mnist into ~/.cache/dist_hdnn where folder lacks them, and check their sha256"""
    standardise: bool = True
    """shift and scale features of images and files to mean 0 and deviation 1 over the training points"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class SensorConfig:
    """One input feature and the agent that observes it."""

    feature: int
    """column of the data"""
    agent: str | int
    """number of the agent, or its name in the graph file"""
    half: Literal["p", "q"] = "q"
    """half of the agent's state that takes the feature"""
    slot: int = 0
    """position in that half"""


@dataclass
class LiftConfig:
    """From the features to the agents' first state."""

    kind: Literal["sensors", "linear", "conv", "channels"] = "sensors"
    """sensors: one feature into one neuron; linear: every agent learns a map of the features that it sees; conv: after
    filters of its own on its patch of an image; channels: a neuron is a filter on the whole image, a pixel a sample"""
    rows: int | None = None
    """rows of the grid of patches over an image (default: those of a grid of agents, else as square as possible)"""
    columns: int | None = None
    """columns of the grid of patches"""
    channels: int = 8
    """filters of every agent of kind=conv"""
    kernel: int = 3
    """side of the filters of kind=conv and channels, odd"""
    pool: int = 2
    """side of the squares of filtered pixels whose largest value goes on; 1 for none"""


@dataclass
class ReadoutConfig:
    """From the final state to a class."""

    kind: Literal["sum", "local", "gossip", "agents"] = "sum"
    """sum: one linear map over all agents; local: every agent classifies from its own neurons; gossip: and averages its
    scores with its neighbours'; agents: only the designated ones classify"""
    rounds: int = 4
    """rounds of averaging of kind=gossip"""
    agents: list[int | str] = field(default_factory=list)
    """numbers or names of the agents of kind=agents"""


@dataclass
class TrainConfig:
    """The training recipe."""

    epochs: int = 50
    """passes over the training data"""
    batch_size: int = 125
    """samples of one gradient step"""
    optimizer: Literal["adam", "adamw"] = "adamw"
    """optimizer of network and readout"""
    learning_rate: float = 0.02
    """first learning rate"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """course of the learning rate over the run"""
    weight_decay: float = 0.03
    """decay of K, X and the readout's weights; biases do not decay"""
    smoothness: float = 1e-4
    """weight of the penalty (h/2) sum |K_{j+1} - K_j|^2 + |b_{j+1} - b_j|^2"""
    log_gradients: bool = False
    """write the norm of every layer's weight gradient into the metrics, and plot it"""
    levels: list[int] = field(default_factory=list)
    """multilevel training: numbers of layers that train in turn over the same time, each from the weights of the one
    before and a multiple of it, the last network.layers; the epochs are split evenly (default: no levels)"""
    threads: int | None = None
    """CPU threads (default: one for small networks, else as PyTorch chooses)"""


@dataclass
class CheckpointConfig:
    """What a stopped run goes on from."""

    every: str = "5 minutes"
    """how often to save all that the run needs to go on: a number of steps, epochs, seconds or minutes, or never (a
    signal to stop saves all the same)"""
    keep: int = 3
    """checkpoints that are kept, besides the one with the best test accuracy"""


@dataclass
class PartitionConfig:
    """Which worker owns which agent."""

    method: Literal["contiguous", "round_robin", "spectral", "greedy", "metis", "given"] = "contiguous"
    """contiguous: runs of agent numbers; metis needs the extra dist_hdnn[partition]; given: by owners"""
    owners: dict[str, int] | None = None
    """agent -> worker, for method=given"""


@dataclass
class Config:
    """Everything that defines a run."""

    name: str = "run"
    """name of the run: the folder below runs/"""
    output: str | None = None
    """exact run directory (default: runs/<name>/<time>-s<seed>)"""
    seed: int = 0
    """seed of initial weights and batch order"""
    dtype: Literal["float32", "float64"] = "float32"
    """number format of state and weights"""
    device: str = "cpu"
    """cpu, cuda or cuda:<number>"""
    graph: GraphConfig = field(default_factory=GraphConfig)
    more_graphs: list[GraphConfig] = field(default_factory=list)
    """further graphs on the same agents; the layers cycle through graph and these"""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sensors: list[SensorConfig] = field(default_factory=list)
    """who observes which feature (default: the first feature at the first agent, the last at the last)"""
    initial_state: Literal["zero", "learned"] = "zero"
    """state of the neurons that no sensor feeds"""
    lift: LiftConfig = field(default_factory=LiftConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resume: str | None = None
    """go on with a run: its directory, one of its checkpoints, or auto: the newest usable checkpoint in output, or in
    the newest unfinished run of this config, or else from the start"""
    restarts: int = 0
    """how often to start the workers of this machine again, from the newest checkpoint, when one has failed"""
    workers: int | None = None
    """workers to start on this machine (default: as many as torchrun, mpiexec or srun started, else one)"""
    transport: Literal["threads", "gloo", "nccl", "mpi"] | None = None
    """how workers talk (default: mpi under mpiexec and srun, else gloo)"""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    deterministic: bool = False
    """the same bits whatever the number of workers, for more bytes and time"""
    overlap: bool = False
    """compute what needs no other worker while slices travel"""
    plan: Literal["auto", "torch", "tiles"] = "auto"
    """how products are computed: tiles need the extra fast, auto takes them where they can be had"""
    timeout: float = 120.0
    """seconds a worker waits for another before the job ends"""


ELSEWHERE = (
    "name",
    "output",
    "resume",
    "restarts",
    "checkpoint",
    "workers",
    "transport",
    "partition",
    "deterministic",
    "overlap",
    "timeout",
    "device",
)
"""Options that may be others when a run goes on."""
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "steps": 1.0, "epochs": 1.0}


def run_identity(config: Config) -> dict[str, Any]:
    """The options that must be the same when a run goes on, as nested mappings."""
    options = {key: value for key, value in asdict(config).items() if key not in ELSEWHERE}
    options["train"] = {key: value for key, value in options["train"].items() if key != "threads"}
    return options


def interval(every: str) -> tuple[float, str]:
    """ "5 minutes" -> (300.0, "seconds"), "2 epochs" -> (2.0, "epochs"), "never" -> (0.0, "never").

    Raises ValueError, one line.
    """
    words = every.split()
    if words == ["never"]:
        return 0.0, "never"
    unit = words[1] if len(words) == 2 and words[1] in UNITS else f"{words[1]}s" if len(words) == 2 else ""
    try:
        amount = float(words[0])
    except (ValueError, IndexError):
        amount = 0.0
    counted = unit in ("steps", "epochs")
    if unit not in UNITS or not 0 < amount < float("inf") or (counted and amount != int(amount)):
        raise ValueError(
            f"checkpoint.every: expected such as '500 steps', '2 epochs', '5 minutes', or never, got {every!r}. Use "
            f"one of the units {', '.join(UNITS)}."
        )
    return (amount, unit) if counted else (amount * UNITS[unit], "seconds")


def forget_workers(config: Config, kept: Container[str]) -> None:
    """Let a run's config be used by other workers than trained it; `kept`: the keys that are given anew."""
    for key in ("workers", "transport"):
        if key not in kept:
            setattr(config, key, None)
    if "partition.method" not in kept:
        config.partition = PartitionConfig()
