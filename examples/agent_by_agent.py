"""Run exported agents one by one, each with only its own two files, and let them exchange slices.

    dist-hdnn export runs/swiss_roll_ring8/<run> --output=exported
    python examples/agent_by_agent.py exported/agents readings.csv

readings.csv has a column for every feature, as measured; each agent reads its own, scales them and answers. Without it,
the agents propagate random states.

Agents are coroutines that share a mailbox, a dict: an agent posts its slices of a round and pauses until those of its
neighbors arrive. Needs numpy, and neither PyTorch nor dist_hdnn but one file of it, the mathematics of an agent. With
`dist-hdnn export --runtime` agents are programs of their own that send the same slices over UDP or TCP.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "dist_hdnn" / "exporting"))
from one_agent import Agent, Run  # noqa: E402

Array = NDArray[Any]


def run_together(runs: dict[int, Run]) -> dict[int, Array]:
    """Resume agents in turn until all are done; return their results. Raises RuntimeError for a message left unread."""
    mailbox: dict[tuple[Any, ...], Array] = {}
    results: dict[int, Array] = {}
    waiting: dict[int, Any] = {}  # the round in which each agent waits
    start: dict[int, Any] = dict.fromkeys(runs)  # what an agent gets when it goes on
    while len(results) < len(runs):
        for i in start:
            try:
                waiting[i] = at = runs[i].send(start[i])
            except StopIteration as done:
                results[i] = done.value
                continue
            mailbox |= {(at.layer, at.round, i, j): values.copy() for j, values in at.out.items()}
        start = {}
        for i, at in waiting.items():
            expected = {j: (at.layer, at.round, j, i) for j in at.sources}
            if i not in results and all(key in mailbox for key in expected.values()):
                start[i] = {j: mailbox.pop(key) for j, key in expected.items()}
        if not start and len(results) < len(runs):
            raise RuntimeError(f"agents wait for messages that nobody sent: {sorted(set(runs) - set(results))}")
    if mailbox:
        raise RuntimeError(f"nobody read the message (layer, round, sender, receiver) {min(mailbox)}")
    return dict(sorted(results.items()))


def load_agents(folder: Path) -> dict[int, Agent]:
    """Load the agents of a folder."""
    agents = [Agent(file) for file in folder.glob("*.json")]
    return {agent.number: agent for agent in sorted(agents, key=lambda agent: agent.number)}


def read(file: Path, agents: dict[int, Agent]) -> Array:
    """Read raw readings (rows, all features) of a .csv file, columns by the names that the agents know."""
    names = {int(i): name for agent in agents.values() for i, name in agent.about["readings"]["names"].items()}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[names[i]] or "nan") for i in sorted(names)] for row in rows])


def answer_text(scores: Array, about: dict[str, Any]) -> str:
    """Format scores (rows, classes) as names of classes, targets as they are."""
    if about["targets"]:
        return np.array2string(scores.squeeze(1) if scores.shape[1] == 1 else scores, precision=4)
    return ", ".join(str(about["classes"][best]) for best in scores.argmax(axis=1))


def main() -> None:
    agents = load_agents(Path(sys.argv[1] if len(sys.argv) > 1 else "exported/agents"))
    if not agents:
        sys.exit("expected the folder agents/ of dist-hdnn export, got no agents; run the first command of this file")
    if len(sys.argv) > 2:
        readings = read(Path(sys.argv[2]), agents)
        answers = run_together({i: agent.answer(readings) for i, agent in agents.items()})
        if agents[min(agents)].about["readout"]["kind"] == "sum":
            print(f"all agents: {answer_text(sum(answers.values()), agents[min(agents)].about)}")
            return
        for i, scores in answers.items():
            if scores.shape[1]:
                print(f"agent {i} ({agents[i].about['name']}): {answer_text(scores, agents[i].about)}")
        return
    columns = max(agent.about["state_columns"][1] for agent in agents.values())
    y = np.random.default_rng(0).standard_normal((3, columns))
    last = run_together({i: agent.run(y[:, slice(*agent.about["state_columns"])]) for i, agent in agents.items()})
    for i, state in last.items():
        print(f"agent {i} ({agents[i].about['name']}): {np.array2string(state[0], precision=4)}")


if __name__ == "__main__":
    main()
