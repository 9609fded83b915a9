"""What commands print: sections of label and text, a table on a terminal and plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

WORST = 5  # agents that a table lists
Sections = dict[str, list[tuple[str, str]]]


def show(sections: Sections) -> None:
    """Print sections on stdout."""
    width = max((len(label) for rows in sections.values() for label, _ in rows), default=0)
    if not sys.stdout.isatty():
        for title, rows in sections.items():
            print(title)
            for label, text in rows:
                print(f"  {label:<{width}}  {text}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, rows in sections.items():  # one table per section: a long title must not widen the labels
        console.print(Text(title, style="bold"))
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(width=width + 2, no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for label, text in rows:
            table.add_row(f"  {label}", Text(text))
        console.print(table)


def print_json(value: dict[str, Any]) -> None:
    """Print the answer of a command as JSON on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def announce(what: str) -> None:
    """Announce, on a terminal only, a step that takes some seconds."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr, flush=True)


def inspection_sections(info: dict[str, Any]) -> Sections:
    """Return the result of `inspect` as sections."""
    sections: Sections = _stage_sections(info, "")
    for i, stage in enumerate(info["more_graphs"], start=2):
        sections |= _stage_sections(stage, f" {i}")
    if "partition" in info:
        sections["workers"] = _partition_rows(info["partition"])
    sections |= {
        "network": _network_rows(info),
        "communication (one agent per worker)": _communication_rows(info),
        "memory (estimate, one process)": [
            ("weights and optimizer", size(info["memory"]["weights_bytes"])),
            ("stored by a sweep", size(info["memory"]["sweep_bytes"])),
            ("total", size(info["memory"]["total_bytes"])),
        ],
        "data": _data_rows(info["data"]),
    }
    if info["warnings"]:
        sections["warnings"] = [("warning", text) for text in info["warnings"]]
    return sections


def _partition_rows(partition: dict[str, Any]) -> list[tuple[str, str]]:
    neurons, products = partition["neurons"], partition["block_products"]
    agents = partition["agents"]
    each = f"{_span(agents)} agents on each of {partition['workers']} workers"
    rows = [
        ("partition", f"{partition['method']}, {each}"),
        ("neurons per worker", f"{_span(neurons)}, imbalance {neurons['imbalance']:.2f}"),
        ("block products", f"imbalance {products['imbalance']:.2f}"),
        ("cut links", str(partition["cut_links"])),
    ]
    for turn in partition["rounds"]:
        ghosts = f"ghosts {_span(turn['ghosts'])} per worker"
        text = f"{turn['messages']} messages, {size(turn['bytes'])}, {ghosts}"
        rows.append((f"round over {turn['pattern']}", text))
    return rows


def _span(figures: dict[str, Any]) -> str:
    """Return minimum and maximum as text, one number if they are equal."""
    least, most = (int(count) if count == int(count) else round(count, 2) for count in (figures["min"], figures["max"]))
    return str(least) if least == most else f"{least} to {most}"


def _stage_sections(stage: dict[str, Any], number: str) -> Sections:
    graph, degree = stage["graph"], stage["graph"]["degree"]
    sizes = ", ".join(map(str, graph["component_sizes"])) + (", ..." if graph["components"] > 10 else "")
    return {
        f"graph{number}": [
            ("name", graph["name"]),
            ("agents, links", f"{graph['agents']}, {graph['links']}"),
            ("components", str(graph["components"]) + (f" of {sizes} agents" if graph["components"] > 1 else "")),
            ("diameter", f"{'' if graph['diameter_exact'] else 'at least '}{graph['diameter']} hops"),
            ("degree", f"{_span(degree)}, mean {degree['mean']:.2f}"),
        ],
        f"patterns{number}": [
            ("K", _pattern_text(stage["K"])),
            ("X", _pattern_text(stage["X"])),
            (
                "T R'R <= S",
                "yes" if stage["locally_computable"] else "no (not needed here: two exchanges per half step)",
            ),
        ],
    }


def _pattern_text(pattern: dict[str, Any]) -> str:
    beyond = f", {pattern['entries_on_non_links']} blocks on non-links" if pattern["entries_on_non_links"] else ""
    return (
        f"{pattern['kind']}: {pattern['entries']} blocks, density {pattern['density']:.3g}, "
        f"{pattern['links_used']} of {pattern['links']} links{beyond}"
    )


def _network_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    network, reach, width = info["network"], info["reach"], info["network"]["width"]
    parts = ", ".join(f"{name} {count}" for name, count in network["parameters"].items() if count and name != "total")
    placement = network["placement"]
    return [
        ("neurons", f"{network['neurons']}, {_span(width)} per agent"),
        ("layers", f"{network['layers']} of step {network['step']:g}, {network['activation']}"),
        ("agents coupled by", placement if isinstance(placement, str) else ", then ".join(placement)),
        ("parameters", f"{network['parameters']['total']} ({parts})"),
        ("products by", network["plan"]),
        (
            "reach",
            f"{reach['hops']} hops in all layers, diameter {'' if reach['diameter_exact'] else 'at least '}"
            f"{reach['diameter']}" + (f", {reach['components']} parts" if reach["components"] > 1 else ""),
        ),
    ]


def _communication_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    sent = info["communication"]
    link, step = sent["bytes_per_link_and_layer"], sent["bytes_per_link_and_step"]
    rounds = sent["rounds_per_layer"]
    return [
        ("state", size(sent["state_bytes"])),
        ("rounds per layer", f"{rounds if isinstance(rounds, int) else ', '.join(map(str, rounds))}, forward"),
        ("rounds per step", f"{sent['rounds_per_step']:,}"),
        ("layer, forward", f"{sent['messages_per_layer']:g} messages, {size(sent['bytes_per_layer'])}"),
        ("link and layer", f"mean {size(link['mean'])}, max {size(link['max'])}"),
        ("training step", f"{sent['messages_per_step']} messages, {size(sent['bytes_per_step'])}"),
        ("prediction", f"{sent['messages_per_prediction']} messages, {size(sent['bytes_per_prediction'])}"),
        ("link and step", f"mean {size(step['mean'])}, max {size(step['max'])}"),
    ]


def _listed(words: list[str]) -> str:
    return ", ".join(words[:8]) + (", ..." if len(words) > 8 else "")


def _data_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    agents, named = _listed(data["sensor_agents"]), bool(data["columns"])
    chosen = f", {data['validation']} validation" if data["validation"] else ""
    return [
        ("name", f"{data['name']}, {data['train']} training{chosen} and {data['test']} test points"),
        ("features, classes", f"{data['features']}, {data['classes']}"),
        ("agents with a sensor", agents),
        *([("columns", _listed([f"{name} -> {' '.join(seen)}" for name, seen in data["columns"].items()]))] * named),
    ]


def certificate_sections(certificate: dict[str, Any]) -> Sections:
    """Return a certificate as sections."""
    network, norms, stable = certificate["network"], certificate["sensitivity"], certificate["stability"]
    about = "" if norms["norms"] == "exact" else "at least "
    limit = "no limit is known" if stable["limit"] is None else f"limit of the scheme {stable['limit']:.4g}"
    spectrum, learning = certificate["spectrum"], certificate["momentum"]
    layers = spectrum["smallest_singular_value"], spectrum["largest_singular_value"]
    rows = [
        ("architecture", f"{network['architecture']} by {network['integrator']}, order {network['order']}"),
        ("layer", network["equation"]),
        ("size", f"{network['agents']} agents, {network['neurons']} neurons, {network['layers']} layers"),
        ("measured", f"in float64 at {network['samples']} test points, by {certificate['method']}"),
    ]
    figures = [
        ("sensitivity |∂y_N/∂y_0|", f"{about}{norms['smallest'][-1]:.6g} to {about}{norms['largest'][-1]:.6g}"),
        ("upper bound from the weights", _number(norms["upper_bound"][-1])),
        ("singular values of the layers", f"{min(layers[0]):.4g} to {max(layers[1]):.4g}"),
        ("step size, largest h omega", f"at most {max(stable['h_omega']):.4g} by the weights; {limit}"),
        ("drift of p.f along the layers", f"{learning['largest_drift']:.3g} (weights in time: {learning['weights']})"),
    ]
    if spectrum["spectral_radius"] is not None:
        figures.insert(3, ("largest |eigenvalue| of a layer", f"{max(spectrum['spectral_radius']):.10g} (one sample)"))
    for dtype, error in (certificate["reversibility"] or {}).items():
        text = f"largest error {error['largest']:.3g}, relative {error['relative']:.3g}"
        figures.append((f"y0 from yN in {dtype}", text))
    figures += [(name, why) for name, why in [("determinant", certificate["determinant"].get("why"))] if why]
    return {
        str(certificate["run"]): rows,
        "promises": [_promise_row(promise) for promise in certificate["promises"]],
        "figures": figures,
    }


def _promise_row(promise: dict[str, Any]) -> tuple[str, str]:
    sign = ">=" if promise["name"] == "gradients do not vanish" else "<="
    value, limit = _number(promise["value"]), f"{promise['limit']:.12g}"
    return promise["name"], f"{promise['verdict']:9}  {value} {sign} {limit}  {promise['text']}"


def _number(value: float | None) -> str:
    return "too large for a number" if value is None else f"{value:.10g}"


def size(count: float) -> str:
    """Return a number of bytes as text."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:g} {unit}" if unit == "B" and count == int(count) else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _figure(value: float | None, share: bool) -> str:
    if value is None:
        return "undefined"
    return f"{100 * value:.2f} %" if share else f"{value:.6g}"


def summary_rows(summary: dict[str, Any], directory: Path, plots: Path | None) -> list[tuple[str, str]]:
    """Return what `train` prints of a finished run."""
    if "test_r2" in summary:
        fit = summary["test_r2"]
        rows = [("test R²", "undefined: all targets are equal" if fit is None else f"{fit:.4f}")]
    else:
        rows = [("test accuracy", f"{100 * summary['test_accuracy']:.2f} %")]
    if "best_epoch" in summary:
        best = f"of epoch {summary['best_epoch']} of {summary['epochs']}, the best on validation data"
        rows.append(("weights", best))
    if "mean_agent_accuracy" in summary:
        mean, worst = (100 * summary[f"{which}_agent_accuracy"] for which in ("mean", "worst"))
        rows.append(("agents", f"mean {mean:.2f} %, worst {worst:.2f} %"))
    return rows + [("plots", str(plots))] * (plots is not None) + [("run", str(directory))]


def result_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return any flat result as rows, accuracies in percent."""
    rows = []
    for key, value in result.items():
        share = "accuracy" in key
        if isinstance(value, float | None):
            text = _figure(value, share)
        elif isinstance(value, dict) and value:  # by the names of agents; --json has all of them
            worst = sorted(value, key=lambda name: math.inf if value[name] is None else value[name])[:WORST]
            text = ", ".join(f"{name} {_figure(value[name], share)}" for name in worst)
            text += f"; {len(value) - WORST} more are no worse" if len(value) > WORST else ""
        elif key.startswith("bytes"):
            text = size(value)
        else:
            text = str(value)
        rows.append((key.replace("_", " "), text))
    return rows
