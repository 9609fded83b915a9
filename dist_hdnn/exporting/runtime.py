"""Agents that run in the field: `dist-hdnn export RUN --runtime`.

3/3.json, 3/3.npz      what agent 3 alone needs, as in `files`
3/neighbors.json       where it listens, where its neighbors are, the deadline of a round, what fills lost slices
3/agent.py             the program, the same for all agents: `agent.py` with the mathematics of `one_agent.py` inside
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.build.trained import TrainedRun
from dist_hdnn.config import LinksConfig
from dist_hdnn.config.paths import user_path
from dist_hdnn.exporting.files import FILED_AGENTS, export_agents
from dist_hdnn.links.model import Fill

HERE = Path(__file__).parent
FIRST_PORT = 7000
LONGEST = 65_000  # bytes of a slice that fit into a datagram with its header
Protocol = Literal["udp", "tcp"]


@dataclass(frozen=True)
class Manner:
    """How agents exchange slices. deadline: seconds per round. pair: who did not hear a slice does not answer it."""

    protocol: Protocol = "udp"
    deadline: float = 0.05
    fill: Fill = "zero"
    pair: bool = True

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("protocol", self.protocol, get_args(Protocol)),
            ("fill", self.fill, get_args(Fill)),
        ):
            if value not in choices:
                raise ValueError(f"--{name}: expected one of {', '.join(choices)}, got {value}; choose one")
        if not 0 < self.deadline < float("inf"):
            raise ValueError(f"--deadline: expected a time above 0 seconds, got {self.deadline}; such as 0.05")


def manner_of(links: LinksConfig, deadline: float | None, protocol: Any = None, fill: Any = None) -> Manner:
    """Return how the agents of a run exchange slices: None for 50 ms, for udp, and for the fill of its links.

    Raises ValueError for a run whose slices are late by layers, which is another network.
    """
    if links.delay is not None or any(rule.delay is not None for rule in links.rules):
        raise ValueError("export: expected a run whose links have no delay in layers, got one with; agents have none")
    return Manner(protocol or "udp", 0.05 if deadline is None else deadline, fill or links.fill, links.pair != "none")


def export_runtime(
    run: TrainedRun,
    directory: str | Path,
    manner: Manner,
    agents: Sequence[int | str] | None = None,
    host: str = "127.0.0.1",
    first_port: int | None = FIRST_PORT,
) -> Path:
    """Write a folder per agent into a new or empty directory. agents: numbers or names; None for all.

    All agents listen on `host`, agent i at port first_port + i; None for ports that are told later.
    Raises ValueError for agents that no runtime can run, or a directory that holds files.
    """
    graph = run.net.graph
    if agents is None and graph.agents > FILED_AGENTS:
        raise ValueError(
            f"export: expected at most {FILED_AGENTS} agents, got {graph.agents}; name some, as in --agents=3,7"
        )
    chosen = range(graph.agents) if agents is None else agents
    numbers = sorted({agent_number(graph, agent, "export.agents") for agent in chosen})
    folder = user_path(directory, "export: output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"export: expected a new or empty directory, got {folder}; delete it, or choose another one")
    part = folder.resolve().with_name(f"{folder.resolve().name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        export_agents(run, part, numbers)
        for agent in numbers:
            _complete(part, agent, manner, host, first_port, graph.names[agent])
    except ValueError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.replace(folder)
    return folder


def _complete(part: Path, agent: int, manner: Manner, host: str, first_port: int | None, name: str) -> None:
    """Give an agent its folder. Raises ValueError for one that no runtime can run."""
    own = part / str(agent)
    own.mkdir()
    for kind in ("json", "npz"):
        (part / f"{agent}.{kind}").rename(own / f"{agent}.{kind}")
    about = json.loads((own / f"{agent}.json").read_text(encoding="utf-8"))
    _check_agent(about, manner, name)
    ports = {j: 0 if first_port is None else first_port + j for j in {agent, *about["neighbours"]}}
    others = {str(j): {"host": host, "port": ports[j]} for j in about["neighbours"] if j != agent}
    place = {"host": host, "port": ports[agent], **asdict(manner), "neighbors": others}
    (own / "neighbors.json").write_text(json.dumps(place, indent=2) + "\n", encoding="utf-8")
    (own / "agent.py").write_text(program(), encoding="utf-8")


def program() -> str:
    """Return the text of agent.py: the program with the mathematics in place of their import."""
    text, mathematics = ((HERE / name).read_text(encoding="utf-8") for name in ("agent.py", "one_agent.py"))
    inside = mathematics[mathematics.index("Array = ") :].rstrip()
    imports = re.search(r"import json\n.*?\n(?=Array = )", mathematics, re.DOTALL)
    own = re.search(r"from dist_hdnn\.exporting\.one_agent import .*\n", text)
    assert imports is not None and own is not None
    return text.replace(own[0], f"{_new_imports(imports[0], text)}\n{inside}\n")


def _new_imports(imports: str, text: str) -> str:
    """Return the lines of imports that a text lacks."""
    lines = [line for line in imports.splitlines() if line and line not in text.splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _check_agent(about: Mapping[str, Any], manner: Manner, name: str) -> None:
    """Raise ValueError for slices to agents that are no neighbors, and for those that do not fit into a datagram."""
    rounds = [each for layer in about["schedule"] for update in layer for each in update["rounds"]]
    others = {int(j) for each in rounds for j in (*each["to"], *each["from"])} - set(about["neighbours"])
    if others:
        raise ValueError(
            f"export: expected slices between neighbors alone for --runtime, got a pattern that couples {name} with "
            f"agent {min(others)}, which no link joins to it; train with network.K.kind=neighbours"
        )
    longest = max((8 * shape[0] for each in rounds for shape in each["to"].values()), default=0)
    if manner.protocol == "udp" and longest > LONGEST:
        raise ValueError(
            f"export: expected slices of at most {LONGEST} bytes for udp, got {longest} at {name}; use --protocol=tcp"
        )
