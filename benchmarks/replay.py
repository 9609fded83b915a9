"""Replay trainings over impaired links on other workers, transports and owners, and compare all bits.

    python benchmarks/replay.py                                     20 configs x 4 x 3 x 2 runs
    python benchmarks/replay.py --configs 5 --transports threads    fewer of them

Every run trains a few steps in deterministic mode, and evaluates over impaired links. Its losses, evaluations and
weights are compared with those of the same config in one process. The runs of one transport and number of workers share
one start of the workers. Prints "n of n equal", and exits with 1 if some are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")  # before PyTorch is loaded, as deterministic runs set it
from dist_hdnn.config import Config  # noqa: E402
from dist_hdnn.config.files import read_config  # noqa: E402
from dist_hdnn.launching import launcher  # noqa: E402
from dist_hdnn.transport import Transport  # noqa: E402

HERE = Path(__file__).resolve()
TRANSPORTS = ("threads", "gloo", "mpi")
OWNERS = ("contiguous", "scattered")
FEW = [
    "--network.width=4",
    "--data.samples=120",
    "--train.epochs=2",
    "--train.batch_size=30",
    "--network.layers=4",
    "--plots=false",
]
ALL = "loss=0.3 burst=2 outage=0.1 bits=6 bits_back=8 rounding=stochastic agent_outage=0.05 failout=0.3 ramp=uniform"
LOST = "loss=0.3 burst=2 outage=0.1 agent_outage=0.05 failout=0.3 ramp=uniform"
CONFIGS = [  # options of the links, then others
    "loss=0.3",
    "loss=0.6 pair=exchange",
    "loss=0.3 pair=none fill=own",
    "loss=0.3 fill=hold",
    "loss=0.3 fill=predict burst=3",
    "loss=0.3 backward=independent",
    "delay=1",
    "delay=[0,2] loss=0.2",
    "bits=4 bits_back=4",
    "bits=2 rounding=stochastic",
    "outage=0.2 agent_outage=0.1 dead=[3]",
    f"{ALL}",
    f"{ALL} fill=own pair=exchange",
    f"{ALL} fill=hold delay=[0,1]",
    f"{ALL} fill=predict delay=[1,2] pair=none",
    f"{ALL} backward=independent",
    f"{LOST} | graph.family=grid graph.rows=3 graph.columns=4 network.memory=reversible dtype=float64",
    f"{ALL} ramp=grow | graph.family=star network.architecture=leapfrog network.memory=recompute network.keep_every=2",
    f"{ALL} fill=own | network.architecture=H1 network.J=J2 readout.kind=local",
    f"{ALL} strengths={{'0':0.2,'3':1.0}} | graph.family=erdos_renyi graph.agents=12 graph.probability=0.3 "
    "network.X.kind=block_diagonal",
]


def config_of(number: int, owners: str, workers: int) -> Config:
    """Read a config. owners: contiguous, or scattered over the workers in no order."""
    links, _, others = CONFIGS[number].partition(" | ")
    options = [f"--links.{word}" for word in links.split()] + [f"--{word}" for word in others.split()]
    config = read_config(HERE.parents[1] / "configs" / "swiss_roll_ring8.yaml", [*FEW, *options])
    config = replace(config, deterministic=True, seed=number)
    if owners == "scattered" and workers > 1:
        agents = 12 if "grid" in others or "erdos" in others else 8
        config.partition.method = "given"
        config.partition.owners = {str(agent): (5 * agent + 1) % agents % workers for agent in range(agents)}
    return config


def trained(config: Config, transport: Transport | None) -> dict[str, str]:
    """Train a config and return digests of its losses and evaluations, and of the whole network's weights."""
    from dist_hdnn.build import assembly
    from dist_hdnn.experiment.tasks import split_tensors, train_model
    from dist_hdnn.training.evaluation import evaluate

    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    training, test = (split_tensors(config, data, which) for which in ("train", "test"))
    records = train_model(config, model, data, training, transport=transport)
    tests = [evaluate(model, *test, repetition=number) for number in range(2)]
    losses = [each.loss for each in (*records, *tests)]
    accuracies = [each.accuracy for each in tests] + [each.train_accuracy for each in records]
    weights = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        weights.update(name.encode() + value.numpy().tobytes())
    return {
        "losses": hashlib.sha256(json.dumps(losses + accuracies).encode()).hexdigest(),
        "weights": weights.hexdigest(),
    }


def work(config: Config, transport: Transport | None) -> None:
    """Train all configs with all owners in the workers that have been started, and print digests line by line."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    workers = 1 if transport is None else transport.size
    for number in range(int(config.name)):
        for owners in OWNERS:
            digests = trained(config_of(number, owners, workers), transport)
            if transport is None or transport.rank == 0:
                print("RESULT", json.dumps([number, owners, digests]), flush=True)


def started(transport: str, workers: int, configs: int) -> dict[tuple[int, str], dict[str, str]]:
    """Start workers that train all configs, and return their digests."""
    command = [sys.executable, str(HERE), "--work", transport, str(workers), str(configs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if finished.returncode:
        print(finished.stderr[-2000:], file=sys.stderr)
    lines = [line.partition("RESULT ")[2] for line in finished.stdout.splitlines() if "RESULT " in line]
    return {(number, owners): digests for number, owners, digests in map(json.loads, lines)}


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        transport, workers, configs = sys.argv[2:]
        kind: Any = transport if int(workers) > 1 else None
        config = Config(name=configs, transport=kind, workers=int(workers), deterministic=True)
        return launcher.launch(sys.argv[1:], config, work, program=(str(HERE),))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=len(CONFIGS), help="how many of the configs, from the first")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--transports", nargs="*", default=list(TRANSPORTS), choices=TRANSPORTS)
    options = parser.parse_args()
    from measure import header

    print(header())
    expected = started("threads", 1, options.configs)
    equal = total = 0
    for transport in options.transports:
        for workers in options.workers:
            begun = time.perf_counter()
            found = started(transport, workers, options.configs)
            others = [key for key, digests in expected.items() if found.get(key) != expected[key[0], OWNERS[0]]]
            equal, total = equal + len(expected) - len(others), total + len(OWNERS) * options.configs
            others_text = "" if not others else f"; not equal: {others}"
            print(f"{transport:8} {workers} workers: {time.perf_counter() - begun:6.1f} s{others_text}", flush=True)
    print(f"{equal} of {total} equal")
    return int(equal != total)


if __name__ == "__main__":
    sys.exit(main())
