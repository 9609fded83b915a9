"""Emulation of a run: its agents as processes that lose and delay messages for real, against what theory says.

The same fates are laid out twice: by the senders, on real sockets and clocks, and by `virtual`, in one process.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
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
from dist_hdnn.exporting.one_agent import Agent, Array
from dist_hdnn.exporting.processes import Namespaces, Processes, obstacle
from dist_hdnn.exporting.runtime import FIRST_PORT, Manner, export_runtime
from dist_hdnn.exporting.virtual import Floats, Impairments, Outcome, run_virtually
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate

WARMING = 6  # samples over perfect links before the others, by which the time of a round is measured
PATIENCE = 30.0  # seconds above the deadlines of a sample
MOST_AGENTS = 100


@dataclass(frozen=True)
class Plan:
    """What is emulated. window: samples under way at a time. kill: the agent that dies in the middle, None for none."""

    samples: int = 50
    window: int = 1
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
    data: Dataset,
    ledger: Mapping[str, int],
    environment: Mapping[str, str],
    plan: Plan,
    links: Impairments,
    manner: Manner,
    unit: float | Tensor = 1.0,
) -> dict[str, Any]:
    """Answer test samples of a run by real agents, and compare with the lab. Returns plain values for JSON.

    ledger: messages and bytes per prediction. environment: of the agents' processes. unit: of real targets.
    Raises ValueError for agents that cannot run here.
    """
    graph = run.net.graph
    dead = None if plan.kill is None else agent_number(graph, plan.kill, "emulate: --kill")
    _check(plan, graph.agents)
    x, y = data.test_x[: plan.samples], torch.from_numpy(data.test_y[: plan.samples])
    features = x.astype(np.float64)
    with tempfile.TemporaryDirectory(prefix="dist_hdnn") as name, contextlib.ExitStack() as stack:
        folder, hosts = Path(name) / "agents", None
        if plan.namespaces:
            pairs = {(min(pair), max(pair)) for each in run.net.graphs for pair in each.links.tolist()}
            hosts = stack.enter_context(Namespaces(range(graph.agents), sorted(pairs)))
        export_runtime(run, folder, manner, first_port=FIRST_PORT if hosts else None)
        agents = {i: Agent(folder / str(i) / f"{i}.json") for i in range(graph.agents)}
        rounds = max(map(_rounds, agents.values()))
        delays = _write_fates(folder, agents, links, len(x), rounds, hosts)
        prefix = {i: hosts.prefix(i) for i in agents} if hosts else None
        with Processes(folder, agents, environment, "fates.npz", prefix) as processes:
            seen = _drive(processes, agents, features, plan, (rounds + 2) * manner.deadline + PATIENCE, dead)
    hop = seen.unimpaired / max(rounds, 1)
    if dead is not None:
        for pair, each in delays.items():
            each[len(x) // 2 + 1 :] = np.inf if dead in pair else each[len(x) // 2 + 1 :]
    lab = run_virtually(agents, _readings(agents, features), delays, manner, hop)
    if dead is not None:
        lab.scores[dead] = np.where(np.arange(len(x))[:, None] < len(x) // 2, lab.scores[dead], np.nan)
    result: dict[str, Any] = {"agents": graph.agents, "samples": len(x), "rounds": rounds, "header_bytes": HEADER.size}
    result |= {"links": asdict(links), **asdict(manner), "window": plan.window, "namespaces": plan.namespaces}
    result |= {"seconds_per_round": hop} | _compared(
        _Judge(run, torch.from_numpy(x), y, unit), lab, seen, ledger, dead, plan
    )
    if dead is not None:
        others, limit = np.delete(seen.seconds, dead, axis=1)[len(x) // 2 :], rounds * manner.deadline
        figures = {"agent": graph.names[dead], "at_sample": len(x) // 2, "deadline_of_a_sample": limit}
        most = {"answers_missing": int(np.isnan(others).sum()), "slowest_answer": float(np.nanmax(others))}
        result["killed"] = figures | most | {"median_answer_at_the_end": float(np.median(others[len(others) // 2 :]))}
    return result


def _check(plan: Plan, agents: int) -> None:
    """Raise ValueError for what no emulation can do."""
    if agents > MOST_AGENTS:
        raise ValueError(f"emulate: expected at most {MOST_AGENTS} agents, a process each, got {agents}")
    if plan.namespaces and (reason := obstacle()):
        raise ValueError(f"emulate: expected network namespaces for --namespaces, got {reason}; leave it out")


def _rounds(agent: Agent) -> int:
    """Count the rounds of a sample, those of gossip included."""
    schedule, layers = agent.about["schedule"], agent.about["layers"]
    of_layers = [sum(len(update["rounds"]) for update in layer) for layer in schedule]
    gossip: int = agent.about["readout"].get("rounds", 0)
    return gossip + sum(of_layers[layer % len(schedule)] for layer in range(layers))


def _write_fates(
    folder: Path, agents: Mapping[int, Agent], links: Impairments, samples: int, rounds: int, hosts: Namespaces | None
) -> dict[tuple[int, int], Floats]:
    """Write the fates of every sender, after those of the warming samples, and each host's address; return fates."""
    delays = {}
    for i in agents:
        place = json.loads((folder / str(i) / "neighbors.json").read_text(encoding="utf-8"))
        for j in map(int, place["neighbors"]):
            delays[i, j] = links.delays(i, j, samples, rounds)
        own = {str(j): np.pad(delays[i, j], ((WARMING, 0), (0, 0))) for (k, j) in delays if k == i}
        np.savez(folder / str(i) / "fates.npz", **own)  # type: ignore[arg-type]
        if hosts is not None:
            place["host"] = hosts.address(i)
            place["neighbors"] = {j: each | {"host": hosts.address(int(j))} for j, each in place["neighbors"].items()}
            (folder / str(i) / "neighbors.json").write_text(json.dumps(place), encoding="utf-8")
    return delays


def _sensed(agent: Agent, features: Floats) -> dict[int, Floats]:
    """Return the raw readings (samples,) that an agent senses, by number: those that give these features exactly."""
    about, w = agent.about["readings"], agent.weights
    sensed: dict[int, Floats] = {}
    for k, (source, feature) in enumerate(zip(about["sources"], about["features"], strict=True)):
        if not w["readings.mark"][k]:
            sensed[source] = features[:, feature] / w["readings.scale"][k] + w["readings.shift"][k]
    for k, (source, feature) in enumerate(zip(about["sources"], about["features"], strict=True)):
        if w["readings.mark"][k] and source in sensed:
            sensed[source] = np.where(features[:, feature] > 0.5, np.nan, sensed[source])
    return sensed


def _readings(agents: Mapping[int, Agent], features: Floats) -> Floats:
    """Return all readings (samples, readings), those that nobody senses as gaps."""
    sensed: dict[int, Floats] = {}
    for agent in agents.values():
        sensed |= _sensed(agent, features)
    table = np.full((len(features), max(sensed, default=0) + 1), np.nan)
    for source, values in sensed.items():
        table[:, source] = values
    return table


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
    sensed = {i: _sensed(agent, first) for i, agent in agents.items()}
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
        while asked < len(first) and len(open_samples) < (plan.window if asked >= WARMING else 1):
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
    warming, told = answers[1:WARMING], answers[WARMING:]
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


class _Judge:
    """Accuracy of scores by agent on the samples of an emulation."""

    def __init__(self, run: TrainedRun, points: Tensor, labels: Tensor, unit: float | Tensor) -> None:
        self.run, self.unit = run, unit
        self.dtype = run.scaler.dtype
        self.labels = labels.to(self.dtype) if run.regression else labels.to(torch.int64)
        self.network = run.scaler.answers(run.model(points.to(self.dtype)))

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
    judge: _Judge, lab: Outcome, seen: Seen, ledger: Mapping[str, int], dead: int | None, plan: Plan
) -> dict[str, Any]:
    """Return the figures of the network, of the lab and of the processes side by side."""
    samples = len(seen.seconds)
    settled = np.ones(samples, dtype=np.bool_)  # without those during which an agent died
    if dead is not None:
        settled[max(samples // 2 - plan.window + 1, 0) : samples // 2 + 1] = False
    scale = float(judge.network.abs().max())
    gaps = [np.abs(each - lab.scores[i])[settled] for i, each in seen.scores.items() if each.size]
    network, virtual, real = judge.network, judge.whole(lab.scores), judge.whole(seen.scores)
    slowest = {"lab": np.array(list(lab.seconds.values())).max(axis=0), "emulated": np.nanmax(seen.seconds, axis=1)}
    payload, headers = ledger["bytes_per_prediction"], HEADER.size * ledger["messages_per_prediction"]
    return {
        "accuracy": {
            name: judge.accuracy(scores, torch.from_numpy(np.flatnonzero(settled)))
            for name, scores in (("network", network), ("lab", virtual), ("emulated", real))
        },
        "largest_difference": {
            "lab_network": float((virtual - network).abs().max()) / scale,
            "emulated_lab": max(float(np.nanmax(each, initial=0.0)) for each in gaps) / scale,
        },
        "seconds": {
            name: {"median": float(np.median(each)), "p90": float(np.quantile(each, 0.9)), "most": float(each.max())}
            for name, each in slowest.items()
        },
        "busy_seconds_per_sample": float(seen.costs["busy"].mean()),
        "messages": {
            "ledger": ledger["messages_per_prediction"],
            "lab": float(lab.messages.mean()),
            "emulated": float(seen.costs["messages"].mean()),
            "withheld": float(seen.costs["withheld"].mean()),
        },
        "bytes": {
            "ledger": payload,
            "headers": headers,
            "ledger_and_headers": payload + headers,
            "emulated": float(seen.costs["bytes"].mean()),
        },
        "filled": {"lab": float(lab.filled.mean()), "emulated": float(seen.costs["filled"].mean())},
        "late": seen.late,
    }
