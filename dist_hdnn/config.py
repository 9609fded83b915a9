"""What a run is: typed, documented options, and the checks that need nothing but the options themselves.

The text under each field is what `dist-hdnn train --help` shows. This module imports neither torch nor numpy, so that
`--help` answers at once. Reading YAML files and command lines into a `Config` is in `config_file`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Literal

from dist_hdnn.layers.architectures import architecture, check_options

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
    """graph file (.graphml .gml .edges .edgelist .txt .adj .adjlist .json), relative to the current directory"""
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
    """one X for all layers; false: one per layer, which gives up the bound on gradients over several layers"""
    initial_scale: float = 1.2
    """standard deviation of K x at the start, for x of unit variance"""


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
    """folder of the four IDX files of mnist, fashion_mnist or idx, plain or gzipped (default: the download cache)"""
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
    workers: int | None = None
    """workers to start on this machine (default: as many as torchrun, mpiexec or srun started, else one)"""
    transport: Literal["threads", "gloo", "nccl", "mpi"] | None = None
    """how workers talk (default: mpi under mpiexec and srun, else gloo)"""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    deterministic: bool = False
    """the same bits whatever the number of workers, for more bytes and time"""
    overlap: bool = False
    """compute what needs no other worker while slices travel"""
    timeout: float = 120.0
    """seconds a worker waits for another before the job ends"""


def forget_workers(config: Config, kept: Container[str]) -> None:
    """Let a run's config be used by other workers than trained it; `kept`: the keys that are given anew."""
    for key in ("workers", "transport"):
        if key not in kept:
            setattr(config, key, None)
    if "partition.method" not in kept:
        config.partition = PartitionConfig()


def validate(config: Config) -> None:
    """Raise ValueError, one line, for the first option whose value cannot work whatever the graph and the data are."""
    for complaint in _complaints(config):
        raise ValueError(complaint)


def _complaints(config: Config) -> Iterator[str]:
    """One line for each unusable value: key, expected, got, what to do."""
    yield from _numbers(config)
    yield from _widths(config.network.width)
    yield from _architecture(config.network)
    yield from _words(config)
    for i, graph in enumerate([config.graph, *config.more_graphs]):
        yield from _graph("graph" if i == 0 else f"more_graphs[{i - 1}]", graph)
    for key, pattern in (("network.K", config.network.K), ("network.X", config.network.X)):
        yield from _pattern(key, pattern)
    yield from _sensors(config.sensors)
    yield from _lift(config)
    if config.deterministic and config.overlap:
        yield "overlap: expected false with deterministic, whose sums keep their order, got true. Switch one off."


def _at_least(key: str, value: float | None, least: int) -> Iterator[str]:
    """Complain unless value is absent or a finite number >= least."""
    if value is not None and not (math.isfinite(value) and value >= least):
        yield f"{key}: expected a number >= {least}, got {value:g}; raise it"


def _positive(key: str, value: float) -> Iterator[str]:
    if not (math.isfinite(value) and value > 0):
        yield f"{key}: expected a number > 0, got {value:g}; make it positive"


def _numbers(config: Config) -> Iterator[str]:
    network, data, train = config.network, config.data, config.train
    yield from _at_least("seed", config.seed, 0)
    yield from _at_least("network.layers", network.layers, 1)
    yield from _positive("network.step", network.step)
    yield from _at_least("network.initial_scale", network.initial_scale, 0)
    yield from _at_least("data.samples", data.samples, 4)
    yield from _at_least("data.noise", data.noise, 0)
    yield from _at_least("data.seed", data.seed, 0)
    yield from _at_least("data.classes", data.classes, 2)
    yield from _at_least("data.window", data.window, 1)
    yield from _at_least("data.ahead", data.ahead, 0)
    yield from _at_least("readout.rounds", config.readout.rounds, 0)
    yield from _at_least("workers", config.workers, 1)
    yield from _positive("timeout", config.timeout)
    if not 0 < data.test_fraction < 1:
        yield f"data.test_fraction: expected a number between 0 and 1, got {data.test_fraction:g}"
    yield from _at_least("train.epochs", train.epochs, 1)
    yield from _at_least("train.batch_size", train.batch_size, 1)
    yield from _positive("train.learning_rate", train.learning_rate)
    yield from _at_least("train.weight_decay", train.weight_decay, 0)
    yield from _at_least("train.smoothness", train.smoothness, 0)
    yield from _at_least("train.threads", train.threads, 1)
    for name in ("shift", "rotate", "scale"):
        yield from _at_least(f"data.augment.{name}", getattr(data.augment, name), 0)
    if data.augment.scale >= 1:
        yield f"data.augment.scale: expected a share below 1, got {data.augment.scale:g}; 0.1 zooms by up to 10 %"


def _widths(width: int | dict[str, int]) -> Iterator[str]:
    named = {f"network.width.{agent}": n for agent, n in width.items()} if isinstance(width, dict) else {}
    if isinstance(width, dict) and not width:
        yield "network.width: expected an even number or a mapping agent -> even number, got an empty mapping"
    for key, n in named.items() if isinstance(width, dict) else [("network.width", width)]:
        if n < 2 or n % 2:
            remedy = f"use {max(2, n + 1)}" if n % 2 else "use 2 or more"
            yield f"{key}: expected an even number >= 2 (half of the neurons are p, half are q), got {n}; {remedy}"


def _architecture(network: NetworkConfig) -> Iterator[str]:
    time = network.time
    if not isinstance(time, str) and not 2 <= time <= network.layers:
        yield (
            f"network.time: expected free, shared, or a number of knots from 2 to the {network.layers} layers, got "
            f"{time}; choose one of these"
        )
    try:
        found = architecture(network.architecture, network.integrator)
        options = {"shared_x": network.shared_x, "gamma": network.gamma, "J": network.J}
        check_options(found, x=network.X.kind, **options)  # type: ignore[arg-type]
    except ValueError as error:
        yield str(error)


def _words(config: Config) -> Iterator[str]:
    if not config.name or config.name in (".", "..") or re.search(r"[/\\\0]", config.name):
        yield f"name: expected the name of a folder, got {config.name!r}; use --output for a path"
    if config.output is not None and not config.output.strip():
        yield "output: expected the path of a run directory, got an empty text; leave it out for runs/<name>/<time>"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
        yield f"device: expected cpu, cuda or cuda:<number>, got {config.device!r}"
    if (config.readout.kind == "agents") != bool(config.readout.agents):
        got = f"kind={config.readout.kind}, agents {config.readout.agents}"
        yield f"readout: expected a list of agents with kind=agents and only there, got {got}; give both or neither"
    if (config.partition.method == "given") != (config.partition.owners is not None):
        got = f"method={config.partition.method}, owners {'given' if config.partition.owners else 'not given'}"
        yield f"partition: expected owners with method=given and only there, got {got}; give both or neither"
    if config.data.name == "file" and not config.data.file:
        yield "data.file: expected the path of a .csv or .npz file because data.name is file, got none; set data.file"
    wanted = "regression" if config.data.name == "diabetes" else "classification"
    if config.data.name != "file" and config.data.task != wanted:
        yield f"data.task: expected {wanted} with data.name={config.data.name}, got {config.data.task}; correct it"
    if (config.data.window > 1 or config.data.ahead) and config.data.name != "file":
        yield f"data.window: expected 1, and data.ahead 0, because data.name={config.data.name} is no time series"
    if config.data.sensors is not None and config.sensors:
        yield "sensors: expected none beside data.sensors, which places every column, got both; drop one of them"
    if config.data.sensors is not None and config.data.name not in (*TABLES, "file"):
        yield f"data.sensors: expected none, because data.name={config.data.name} has no named columns; leave it out"
    if config.data.name == "idx" and not config.data.folder:
        yield "data.folder: expected the folder of four IDX files because data.name is idx, got none; set data.folder"
    if config.data.folder and config.data.name not in (*PUBLISHED, "idx"):
        yield f"data.folder: expected none, because data.name={config.data.name} reads no IDX files; set data.name=idx"
    if config.data.download and config.data.name not in PUBLISHED:
        yield f"data.download: expected false for data.name={config.data.name}; leave it out"
    if config.data.file and config.data.name != "file":
        yield f"data.name: expected file because data.file is given, got {config.data.name}; set data.name=file"


def _graph(key: str, graph: GraphConfig) -> Iterator[str]:
    for name, least in (("agents", 1), ("rows", 1), ("columns", 1), ("branching", 1), ("height", 0), ("dimension", 0)):
        yield from _at_least(f"{key}.{name}", getattr(graph, name), least)
    for name, least in (("neighbours", 0), ("attachments", 1), ("degree", 0), ("seed", 0)):
        yield from _at_least(f"{key}.{name}", getattr(graph, name), least)
    if not 0 <= graph.probability <= 1:
        yield f"{key}.probability: expected a number from 0 to 1, got {graph.probability:g}"
    if graph.file is not None and not graph.file.strip():
        yield f"{key}.file: expected the path of a graph file, got an empty text"


def _pattern(key: str, pattern: PatternConfig) -> Iterator[str]:
    yield from _at_least(f"{key}.hops", pattern.hops, 0)
    yield from _at_least(f"{key}.seed", pattern.seed, 0)
    if not 0 <= pattern.keep <= 1:
        yield f"{key}.keep: expected a number from 0 to 1, got {pattern.keep:g}"
    if pattern.kind == "identity" and key.endswith("K"):
        yield f"{key}.kind: identity is for network.X only; use block_diagonal for weights that stay inside each agent"
    if pattern.kind == "matrix" and not pattern.file:
        yield f"{key}.file: expected the path of a 0/1 matrix (.csv or .npy) because {key}.kind is matrix, got nothing"


def _sensors(sensors: list[SensorConfig]) -> Iterator[str]:
    for i, sensor in enumerate(sensors):
        yield from _at_least(f"sensors[{i}].feature", sensor.feature, 0)
        yield from _at_least(f"sensors[{i}].slot", sensor.slot, 0)
        if isinstance(sensor.agent, int):
            yield from _at_least(f"sensors[{i}].agent", sensor.agent, 0)


def _lift(config: Config) -> Iterator[str]:
    lift = config.lift
    for name in ("rows", "columns", "channels", "kernel", "pool"):
        yield from _at_least(f"lift.{name}", getattr(lift, name), 1)
    if lift.kernel % 2 == 0:
        yield f"lift.kernel: expected an odd number, got {lift.kernel}; use {lift.kernel + 1}"
    if lift.kind != "sensors" and config.sensors:
        yield f"sensors: expected none with lift.kind={lift.kind}, got {len(config.sensors)}; set lift.kind=sensors"
    if lift.kind != "sensors" and config.initial_state == "learned":
        yield f"initial_state: expected zero with lift.kind={lift.kind}, whose biases are learned; leave it out"
    if (lift.rows is None) != (lift.columns is None):
        yield "lift: expected both rows and columns, or neither, got one of them; give the other"
