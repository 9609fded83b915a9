"""Options of a whole run: `Config`, and what follows from them.

One seed determines everything random in a run; data, graph and patterns follow it unless they have their own.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dist_hdnn.config.data import DataConfig, LiftConfig, ReadoutConfig, SensorConfig
from dist_hdnn.config.links import LinksConfig
from dist_hdnn.config.network import GraphConfig, NetworkConfig, PatternConfig
from dist_hdnn.sweep.execution import Execution


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
    network_rate: float | None = None
    """first learning rate of the network's own weights, where their size differs from that of lift and readout, as with
    network.initial=wave and a large network.step (default: learning_rate)"""
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
    patience: int | None = None
    """epochs without a higher accuracy on validation data after which training stops (default: all epochs); needs
    data.validation_fraction"""
    threads: int | None = None
    """CPU threads (default: one for small networks, else as PyTorch chooses)"""


@dataclass
class CheckpointConfig:
    """Checkpoints, from which a stopped run resumes."""

    every: str = "5 minutes"
    """how often to save what the run needs to resume: a number of steps, epochs, seconds or minutes, or never (a
    signal to stop saves in any case)"""
    keep: int = 3
    """checkpoints that are kept, besides the one with the best validation accuracy"""


@dataclass
class PartitionConfig:
    """Owners of the agents."""

    method: Literal["contiguous", "round_robin", "spectral", "greedy", "metis", "given"] = "contiguous"
    """contiguous: runs of agent numbers; metis needs the extra partition; given: by owners"""
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
    """seed of initial weights and batch order, and of data, graph and patterns unless they have a seed of their own"""
    dtype: Literal["float32", "float64"] = "float32"
    """number format of state and weights"""
    device: str = "cpu"
    """cpu, cuda or cuda:<number>"""
    graph: GraphConfig = field(default_factory=GraphConfig)
    more_graphs: list[GraphConfig] = field(default_factory=list)
    """further graphs on the same agents; the layers cycle through graph and these"""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    links: LinksConfig = field(default_factory=LinksConfig)
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
    """resume a run: its directory, one of its checkpoints, or auto: the newest usable checkpoint in output, or in
    the newest unfinished run of this config, or else from the start"""
    warm_start: str | None = None
    """start a new run from the weights of another, on the command line also --from: its directory, its name, or one of
    its checkpoints; agents and links that both have, by name, keep their weights, all others are drawn"""
    restarts: int = 0
    """restart the workers of this machine up to this many times, from the newest checkpoint, if one fails"""
    workers: int | None = None
    """workers to start on this machine (default: as many as torchrun, mpiexec or srun started, else one)"""
    transport: Literal["threads", "shm", "gloo", "nccl", "mpi"] | None = None
    """how workers talk (default: mpi under mpiexec, else shm or gloo)"""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    plots: bool = True
    """save plots at the end of the run (about one second; switch it off for many short runs)"""
    deterministic: bool = False
    """the same bits whatever the number of workers, for more bytes and time"""
    overlap: bool = False
    """no effect any more: tiles always compute while slices travel"""
    plan: Literal["auto", "torch", "tiles"] = "auto"
    """how products are computed: tiles need llvmlite, auto takes them where it is installed"""
    cuda_graphs: bool = False
    """on one GPU, record the sweeps of a training step and replay them; takes a copy of the weights; not measured"""
    replay: bool = True
    """record the kernel calls of small sweeps on the CPU and replay them: the same bits, less time between kernels"""
    timeout: float = 120.0
    """seconds a worker waits for another before the job ends"""


def execution_of(config: Config) -> Execution:
    """Return how the network of a config is computed. A run compares all data before its first step."""
    network = config.network
    return Execution(
        products=config.plan,
        deterministic=config.deterministic,
        memory=network.memory,
        keep_every=network.keep_every,
        keep_dtype=network.keep_dtype,
        cuda_graphs=config.cuda_graphs,
        replay=config.replay,
        check_batches=False,
    )


Seeded = DataConfig | GraphConfig | PatternConfig


def seed_of(part: Seeded, config: Config) -> int:
    """Return the seed of a part of config, by default that of the run."""
    return config.seed if part.seed is None else part.seed


def with_seeds(config: Config) -> Config:
    """Return a config of the same run in which every part has a seed of its own."""
    copied = copy.deepcopy(config)
    parts: list[Seeded] = [copied.data, copied.graph, *copied.more_graphs, copied.network.K, copied.network.X]
    for part in parts:
        part.seed = seed_of(part, config)
    return copied


ELSEWHERE = (
    "name output resume restarts checkpoint workers transport partition plots deterministic overlap cuda_graphs "
    "replay timeout device"
).split()
"""Options that may change when a run is resumed."""
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "steps": 1.0, "epochs": 1.0}


def run_identity(config: Config) -> dict[str, Any]:
    """Return the options that a resumed run must keep, as nested mappings in which every seed is a number."""
    options = {key: value for key, value in asdict(with_seeds(config)).items() if key not in ELSEWHERE}
    options["train"] = {key: value for key, value in options["train"].items() if key != "threads"}
    return options


def interval(every: str) -> tuple[float, str]:
    """Return "5 minutes" as (300.0, "seconds"), "2 epochs" as (2.0, "epochs"), "never" as (0.0, "never").

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
    """Reset the options of workers, so that others than those that trained a run can use its config.

    kept: the keys that stay as they are.
    """
    for key in ("workers", "transport"):
        if key not in kept:
            setattr(config, key, None)
    if "partition.method" not in kept:
        config.partition = PartitionConfig()
