"""Answers of commands as sections of label and text: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

WORST, LISTED = 5, 8  # of the agents, and of other items, that a row lists
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
    """Return the result of `inspect` as sections, with the names that --json has."""
    sections: Sections = {}
    for i, stage in enumerate([info, *info["more_graphs"]], start=1):
        number = f" {i}" if i > 1 else ""
        sections[f"graph{number}"] = rows_of(stage["graph"])
        local = "yes" if stage["locally_computable"] else "no (not needed: two exchanges per half step)"
        sections[f"patterns{number}"] = [*rows_of({"K": stage["K"], "X": stage["X"]}), ("T R'R <= S", local)]
    remarks = {
        "communication": "communication (one agent per worker)",
        "timing": "predicted times (one agent per device)",
        "memory": "memory (estimate, one process; weights with optimizer)",
    }
    for part in ("partition", "network", "reach", "communication", "timing", "memory", "data"):
        if part in info:
            sections[remarks.get(part, part)] = rows_of(info[part])
    if info["warnings"]:
        sections["warnings"] = [("warning", text) for text in info["warnings"]]
    return sections


def rows_of(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return figures of any kind as rows, accuracies in percent and bytes in units."""
    mixed = {key.replace(f"{of}_mse", "mse") for of in ("agent", "target") for key in figures if f"{of}_mse" in key}
    remark = " (over all targets, each in its own unit)"
    return [
        (key.removesuffix("_bytes").replace("_", " "), _text(key, value) + remark * (key in mixed))
        for key, value in figures.items()
    ]


def _text(key: str, value: Any) -> str:
    """Return the value at a key as one line of text, with the least accurate agents first."""
    match value:
        case None:
            return "undefined"
        case bool():
            return "yes" if value else "no"
        case int() | float() if "bytes" in key:
            return size(value)
        case float() if "accuracy" in key:
            return f"{100 * value:.2f} %"
        case float():
            return f"{value:.6g}"
        case dict() if (
            "_agent_" in key and " " not in key and not any(isinstance(item, dict) for item in value.values())
        ):
            sign = -1 if key.endswith("mse") else 1  # the largest error is the worst
            worst = sorted(value, key=lambda name: math.inf if value[name] is None else sign * value[name])[:WORST]
            more = f"; {len(value) - WORST} more are no worse" if len(value) > WORST else ""
            return ", ".join(f"{name} {_text(key, value[name])}" for name in worst) + more
        case dict():
            return _listed([_named(name, _text(f"{key} {name}", item), item) for name, item in value.items()])
        case list():
            return _listed([_text(key, item) for item in value])
    return str(value)


def _named(name: str, text: str, value: Any) -> str:
    if isinstance(value, list):  # a column, with its own underscores
        return f"{name} -> {text}"
    name = name.replace("_", " ")
    return f"{name} ({text})" if isinstance(value, dict) else f"{name} {text}"


def _listed(words: list[str]) -> str:
    return ", ".join(words[:LISTED]) + (", ..." if len(words) > LISTED else "")


def certificate_sections(certificate: dict[str, Any]) -> Sections:
    """Return a certificate as sections."""
    network, norms, stable = certificate["network"], certificate["sensitivity"], certificate["stability"]
    about = "" if norms["norms"] == "exact" else "at least "
    limit = "no limit is known" if stable["limit"] is None else f"limit of the scheme {stable['limit']:.4g}"
    spectrum, learning = certificate["spectrum"], certificate["momentum"]
    layers = spectrum["smallest_singular_value"], spectrum["largest_singular_value"]
    rows = [*rows_of(network), ("measured", f"in float64, by {certificate['method']}")]
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


def summary_rows(summary: dict[str, Any], directory: Path, plots: Path | None) -> list[tuple[str, str]]:
    """Return the rows that `train` prints of a finished run."""
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
