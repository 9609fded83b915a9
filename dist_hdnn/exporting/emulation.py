"""Emulation of a run: its agents as processes that lose and delay messages for real, against what theory says.

The same fates are laid out twice: by the senders, on real sockets and clocks, and by `virtual`, in one process.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.build.trained import TrainedRun
from dist_hdnn.data import Dataset
from dist_hdnn.exporting.agent import HEADER
from dist_hdnn.exporting.fates import Delays, Floats, check_links, delays_of, rounds_of, sizes_of
from dist_hdnn.exporting.one_agent import Agent, Array
from dist_hdnn.exporting.processes import Namespaces, Processes, obstacle
from dist_hdnn.exporting.runtime import FIRST_PORT, Manner, export_runtime
from dist_hdnn.exporting.virtual import Outcome, all_readings, run_virtually, sensed_by
from dist_hdnn.links.model import Links
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate

WARMING = 12  # samples over perfect links before the others, by which the time of a round is measured
PATIENCE = 30.0  # seconds above the deadlines of a sample
MOST_AGENTS = 100


@dataclass(frozen=True)
class Plan:
    """What is emulated. window: samples under way at a time, None for one. kill: the agent that dies in the middle."""

    samples: int = 50
    window: int | None = None
    kill: int | str | None = None
    namespaces: bool = False


@dataclass
class Seen:
    """Answers of real agents, samples first. NaN where an agent gave none.

    seconds: of every agent's answer, (samples, agents). costs: sums over agents, (samples,) by name.
    unimpaired: seconds of a sample over perfect links. late: messages that came after the end of their round.
    """

    scores: dict[int, Floats]
    seconds: Floats
    costs: dict[str, Floats]
    unimpaired: float
    late: int


def emulate(
    run: TrainedRun,
    impaired: TrainedRun | None,
    data: Dataset,
    ledger: Mapping[str, int],
    environment: Mapping[str, str],
    plan: Plan,
    links: Links,
    manner: Manner,
    unit: float | Tensor = 1.0,
) -> dict[str, Any]:
    """Answer test samples of a run by real agents, and compare with the lab. Returns plain values for JSON.

    run: over perfect links. impaired: over `links`, the lab; None where the network cannot go over them. ledger:
    messages and bytes per prediction. environment: of the agents' processes. unit: of real targets.
    Raises ValueError for agents that cannot run here.
    """
    graph = run.net.graph
    dead = None if plan.kill is None else agent_number(graph, plan.kill, "emulate: --kill")
    _check(plan, graph.agents)
    check_links(links)
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.test_x))[: plan.samples])
    x, y = data.test_x[chosen], torch.from_numpy(data.test_y[chosen])
    features, points = x.astype(np.float64), torch.from_numpy(x)
    with tempfile.TemporaryDirectory(prefix="dist_hdnn") as name, contextlib.ExitStack() as stack:
        folder, hosts = Path(name) / "agents", None
        if plan.namespaces:
            pairs = {(min(pair), max(pair)) for each in run.net.graphs for pair in each.links.tolist()}
            hosts = stack.enter_context(Namespaces(range(graph.agents), sorted(pairs)))
        export_runtime(run, folder, manner, first_port=FIRST_PORT if hosts else None)
        agents = {i: Agent(folder / str(i) / f"{i}.json") for i in range(graph.agents)}
        rounds = max(map(rounds_of, agents.values()), key=len)
        sizes = sizes_of(agents, links, len(rounds), HEADER.size) if len(run.net.graphs) == 1 else None
        delays = delays_of(links, impaired.net if impaired else None, rounds, len(x), sizes)
        for i, agent in agents.items():  # links of further graphs are perfect
            for j in agent.about["neighbours"]:
                delays.setdefault((i, j), np.zeros((len(x), len(rounds))))
        _write_fates(folder, agents, delays, hosts)
        prefix = {i: hosts.prefix(i) for i in agents} if hosts else None
        with Processes(folder, agents, environment, "fates.npz", prefix) as processes:
            seen = _drive(processes, agents, features, plan, (len(rounds) + 2) * manner.deadline + PATIENCE, dead)
    hop = seen.unimpaired / max(len(rounds), 1)
    if dead is not None:
        for pair, each in delays.items():
            each[len(x) // 2 + 1 :] = np.inf if dead in pair else each[len(x) // 2 + 1 :]
    clock = run_virtually(agents, all_readings(agents, features), delays, manner, hop)
    if dead is not None:
        clock.scores[dead] = np.where(np.arange(len(x))[:, None] < len(x) // 2, clock.scores[dead], np.nan)
    result: dict[str, Any] = {"agents": graph.agents, "samples": len(x), "rounds": len(rounds)}
    result |= {"header_bytes": HEADER.size, **asdict(manner), "window": plan.window or 1, "namespaces": plan.namespaces}
    judge = _Judge(run, points, y, unit)
    networks = {"network": judge.network}
    if impaired is not None and dead is None:
        networks["lab"] = judge.scores(impaired, points)
    result |= {"seconds_per_round": hop} | _compared(judge, networks, clock, seen, ledger, dead, plan)
    if dead is not None:
        result["killed"] = {"agent": graph.names[dead]} | _of_others(seen, dead, len(rounds) * manner.deadline)
    return result


def _of_others(seen: Seen, dead: int, limit: float) -> dict[str, Any]:
    """Return how the others answered from the sample on in which an agent died. limit: seconds of a sample."""
    middle = len(seen.seconds) // 2
    others = np.delete(seen.seconds, dead, axis=1)[middle:]
    missing, slowest = int(np.isnan(others).sum()), float(np.nanmax(others))
    last = float(np.nanmedian(others[len(others) // 2 :]))
    figures = {"at_sample": middle, "deadline_of_a_sample": limit, "answers_missing": missing}
    return figures | {"slowest_answer": slowest, "median_answer_at_the_end": last}


def _check(plan: Plan, agents: int) -> None:
    """Raise ValueError for what no emulation can do."""
    if agents > MOST_AGENTS:
        raise ValueError(f"emulate: expected at most {MOST_AGENTS} agents, a process each, got {agents}")
    if plan.namespaces and (reason := obstacle()):
        raise ValueError(f"emulate: expected network namespaces for --namespaces, got {reason}; leave it out")


def _write_fates(folder: Path, agents: Iterable[int], delays: Delays, hosts: Namespaces | None) -> None:
    """Write the fates of every sender, after those of the warming samples, and each host's address."""
    for i in agents:
        own = {str(j): np.pad(each, ((WARMING, 0), (0, 0))) for (k, j), each in delays.items() if k == i}
        np.savez(folder / str(i) / "fates.npz", **own)  # type: ignore[arg-type]
        if hosts is not None:
            file = folder / str(i) / "neighbors.json"
            place = json.loads(file.read_text(encoding="utf-8")) | {"host": hosts.address(i)}
            place["neighbors"] = {j: each | {"host": hosts.address(int(j))} for j, each in place["neighbors"].items()}
            file.write_text(json.dumps(place), encoding="utf-8")


def _drive(
    processes: Processes,
    agents: Mapping[int, Agent],
    features: Floats,
    plan: Plan,
    patience: float,
    dead: int | None,
) -> Seen:
    """Ask all agents about all samples, `window` at a time, and collect their answers."""
    samples = len(features)
    first = np.concatenate([np.repeat(features[:1], WARMING, axis=0), features])
    sensed = {i: sensed_by(agent, first) for i, agent in agents.items()}
    names = {i: {int(k): name for k, name in agent.about["readings"]["names"].items()} for i, agent in agents.items()}
    answers: dict[int, dict[int, dict[str, Any]]] = {}
    alive = set(agents)

    def ask(number: int) -> None:
        answers[number] = {}
        for i in alive:
            values = {names[i][k]: None if np.isnan(each[number]) else each[number] for k, each in sensed[i].items()}
            processes.tell(i, {"sample": number, "readings": values})

    asked, open_samples = 0, set[int]()
    while asked < len(first) or open_samples:
        while asked < len(first) and len(open_samples) < ((plan.window or 1) if asked >= WARMING else 1):
            if asked == WARMING and open_samples:
                break
            ask(asked)
            open_samples.add(asked)
            if dead is not None and asked == WARMING + samples // 2:
                processes.kill(dead)
                alive.discard(dead)
            asked += 1
        agent, line = processes.next(patience)
        answers[line["sample"]][agent] = line
        open_samples = {number for number in open_samples if not alive <= answers[number].keys()}
    late = [
        sum(max(each[i]["late"] for number, each in answers.items() if i in each and number < end) for i in agents)
        for end in (WARMING, len(first))
    ]
    return _seen(agents, [answers[number] for number in range(len(first))], late[1] - late[0])


def _seen(agents: Mapping[int, Agent], answers: list[dict[int, dict[str, Any]]], late: int) -> Seen:
    """Arrange the answers as arrays."""
    warming, told = answers[2:WARMING], answers[WARMING:]
    unimpaired = float(np.median([max(line["seconds"] for line in each.values()) for each in warming]))
    scores = {}
    for i in agents:
        width = max(len(each[i]["scores"]) for each in answers if i in each)
        scores[i] = np.array([each[i]["scores"] if i in each else [np.nan] * width for each in told])
    seconds = np.array([[each[i]["seconds"] if i in each else np.nan for i in agents] for each in told])
    costs = {
        name: np.array([float(sum(line[name] for line in each.values())) for each in told])
        for name in ("messages", "bytes", "withheld", "filled", "busy")
    }
    return Seen(scores, seconds, costs, unimpaired, late)


class _Collected(nn.Module):
    """Scores that others have computed, as a model: numbers of samples -> scores."""

    def __init__(self, model: AgentClassifier, scores: Tensor) -> None:
        super().__init__()
        self.readout, self.network, self.scores = model.readout, model.network, scores

    def forward(self, numbers: Tensor) -> Tensor:
        return self.scores[numbers]

    def down(self, samples: int) -> None:
        """Return None: what missing agents leave is in the scores, see `_Judge.whole`."""


class _Judge:
    """Accuracy of scores by agent on the samples of an emulation."""

    def __init__(self, run: TrainedRun, points: Tensor, labels: Tensor, unit: float | Tensor) -> None:
        self.run, self.unit = run, unit
        self.dtype = run.scaler.dtype
        self.labels = labels.to(self.dtype) if run.regression else labels.to(torch.int64)
        self.network = self.scores(run, points)

    def scores(self, run: TrainedRun, points: Tensor) -> Tensor:
        """Return the scores of a network, targets in their own units."""
        run.net.at(0, 0)
        return run.scaler.answers(run.model(points.to(self.dtype)))

    def whole(self, scores: Mapping[int, Array]) -> Tensor:
        """Return scores as the network has them. A missing agent adds nothing to a sum, and has no vote."""
        answering = [torch.from_numpy(each).double() for each in scores.values() if each.shape[1]]
        if self.network.ndim == 2:
            return torch.stack(answering).nan_to_num(0.0).sum(dim=0)
        each = torch.stack(answering, dim=1)
        return torch.where(each.isnan(), each.nanmean(dim=1, keepdim=True), each).nan_to_num(0.0)

    def accuracy(self, scores: Tensor, which: Tensor) -> float:
        """Return the share of right answers to these samples, of a regression R²."""
        if self.run.regression:
            scores = (scores - self.run.scaler.target_mean) / self.run.scaler.target_deviation
        model: Any = _Collected(self.run.model, scores.to(self.dtype))
        return evaluate(model, which, self.labels[which], self.unit).accuracy


def _compared(
    judge: _Judge,
    networks: Mapping[str, Tensor],
    clock: Outcome,
    seen: Seen,
    ledger: Mapping[str, int],
    dead: int | None,
    plan: Plan,
) -> dict[str, Any]:
    """Return the figures of networks, of the virtual clock and of the processes side by side."""
    samples = len(seen.seconds)
    settled = np.ones(samples, dtype=np.bool_)  # without those during which an agent died
    if dead is not None:
        settled[max(samples // 2 - (plan.window or 1) + 1, 0) : samples // 2 + 1] = False
    which = torch.from_numpy(np.flatnonzero(settled))
    scale = float(judge.network.abs().max())
    everything = {**networks, "clock": judge.whole(clock.scores), "emulated": judge.whole(seen.scores)}
    gaps = {
        name: float((each - everything["emulated"])[which].abs().max()) / scale for name, each in everything.items()
    }
    slowest = {"clock": np.array(list(clock.seconds.values())).max(axis=0), "emulated": np.nanmax(seen.seconds, axis=1)}
    payload, headers = ledger["bytes_per_prediction"], HEADER.size * ledger["messages_per_prediction"]
    messages = {"clock": clock.messages, "emulated": seen.costs["messages"], "withheld": seen.costs["withheld"]}
    sent = {"ledger": payload, "headers": headers, "ledger_and_headers": payload + headers}
    return {
        "accuracy": {name: judge.accuracy(each, which) for name, each in everything.items()},
        "largest_difference_of_emulated": {name: gap for name, gap in gaps.items() if name != "emulated"},
        "seconds": {
            name: {"median": float(np.median(each)), "p90": float(np.quantile(each, 0.9)), "most": float(each.max())}
            for name, each in slowest.items()
        },
        "busy_seconds_per_sample": float(seen.costs["busy"].mean()),
        "messages": {"ledger": ledger["messages_per_prediction"]}
        | {name: float(each.mean()) for name, each in messages.items()},
        "bytes": sent | {"emulated": float(seen.costs["bytes"].mean())},
        "filled": {"clock": float(clock.filled.mean()), "emulated": float(seen.costs["filled"].mean())},
        "late": seen.late,
    }
