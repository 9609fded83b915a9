"""`dist-hdnn emulate`: the agents of a run as processes, and emulation.json in the run directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dist_hdnn.build import assembly
from dist_hdnn.build.links import build_links
from dist_hdnn.build.trained import with_weights
from dist_hdnn.config import LinksConfig
from dist_hdnn.experiment.tasks import units_of
from dist_hdnn.exporting.emulation import Plan, emulate
from dist_hdnn.exporting.runtime import Manner, Protocol
from dist_hdnn.inspection import per_prediction
from dist_hdnn.launching.launcher import environment_of_runs
from dist_hdnn.launching.supervisor import cores
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable
from dist_hdnn.run.directory import config_of_run

FILE = "emulation.json"
ROUND, OF_AGENT = 0.02, 0.006  # seconds of a round without latency on a busy machine, and those per agent of a core


def emulate_run(
    directory: Path,
    plan: Plan,
    overrides: Sequence[str] = (),
    protocol: Protocol = "udp",
    deadline: float | None = None,
) -> dict[str, Any]:
    """Emulate a run, write the figures into its directory and return them.

    overrides: --links.key=value, of its config. deadline: seconds of a round; None for what a busy machine needs, two
    latencies and six jitters. Raises ValueError, CheckpointError.
    """
    config = replace(config_of_run(directory, overrides), device="cpu", deterministic=False)
    run = with_weights(directory, replace(config, links=LinksConfig()))
    graph, impaired, reason = run.net.graph, None, None
    links = build_links(config, graph) or Links(LinkTable.perfect(graph), graph.agents)
    if links.impairs and len(run.net.graphs) > 1:
        raise ValueError(f"emulate: expected one graph where links are impaired, got {len(run.net.graphs)}; use one")
    if plan.window is None:
        plan = replace(plan, window=8 if links.impairs and plan.kill is None else 1)
    try:
        impaired = with_weights(directory, config)
    except ValueError as error:
        reason = str(error)
    busy = max(ROUND, OF_AGENT * graph.agents / cores())
    latest = busy + 2 * links.table.latency.max(initial=0.0) + 6 * links.table.jitter.max(initial=0.0)
    manner = Manner(protocol, float(latest) if deadline is None else deadline, links.fill, links.pair != "none")
    data = assembly.build_dataset(config)
    ledger = per_prediction(config, run.net.layout, data)
    result = emulate(run, impaired, data, ledger, environment_of_runs(1), plan, links, manner, units_of(data))
    result |= {"links": _of_links(links)} | ({} if reason is None else {"no_lab": reason})
    (directory / FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result


def _of_links(links: Links) -> dict[str, Any]:
    """Return the mean loss, latency and jitter of links, and the seed of their fates."""
    means = {name: getattr(links.table, name) for name in ("loss", "latency", "jitter")}
    return {name: float(each.mean()) if len(each) else 0.0 for name, each in means.items()} | {"seed": links.seed}
