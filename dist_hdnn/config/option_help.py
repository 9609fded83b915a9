"""The options in the help of `train` and `inspect`, in groups: those most people use, or all.

Types, choices, defaults and texts are those of the config dataclasses, the text being the string under each field.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from dist_hdnn.config.paths import names
from dist_hdnn.config.run import Config
from dist_hdnn.config.schema import children_of, members_of, type_at

WIDTH, COLUMN = 80, 30
SHORT = {
    "run": ["output", "seed", "device", "plots", "resume", "warm_start"],
    "graph": ["graph.family", "graph.agents", "graph.file"],
    "network": ["network.architecture", "network.width", "network.layers", "network.step", "network.K.kind"],
    "data": ["data.name", "data.file", "data.target", "data.task", "data.split", "data.validation_fraction"],
    "readout": ["readout.kind"],
    "training": ["train.epochs", "train.batch_size", "train.learning_rate", "train.patience"],
    "workers": ["workers", "transport", "deterministic"],
}
"""group -> keys of the short help"""


def option_help(config: Config | None = None, everything: bool = False) -> str:
    """Return groups of options with types, texts and defaults. config: has the defaults (None: those of Config).

    everything: all options, by the part of the config that they belong to, else those that most people use.
    """
    entries = {key: entry for key, *entry in _options(Config, config or Config())}
    groups: dict[str, list[str]] = {} if everything else SHORT
    for key in entries if everything else ():
        groups.setdefault(key.rpartition(".")[0] or "run", []).append(key)
    lines = []
    for title, keys in groups.items():
        lines.append(f"{title}:")
        for key in keys:
            lines += _option(f"--{key}", *entries[key])
        lines.append("")
    if not everything:
        count = sum(map(len, groups.values()))
        lines.append(f"These are {count} of {len(entries)} options; --help-all shows them all.")
    return "\n".join(lines).rstrip()


def bundled_help() -> str:
    """Return the names of the bundled configs, wrapped."""
    return textwrap.fill(
        f"Bundled configs: {', '.join(names())}.", WIDTH, break_long_words=False, break_on_hyphens=False
    )


def _options(kind: Any, values: Any, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """Yield (dotted key, type, text, value) of every option below a config dataclass. values: its own, or the class."""
    for name, child in children_of(kind).items():
        if dataclasses.is_dataclass(child):
            yield from _options(child, getattr(values, name, child), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child, texts(kind)[name], getattr(values, name, None)


@cache
def texts(kind: type) -> dict[str, str]:
    """Return field -> the string under it, or "", of a config dataclass."""
    under = dict.fromkeys(children_of(kind), "")
    bodies = [ast.parse(inspect.getsource(each)).body[0] for each in kind.__mro__ if dataclasses.is_dataclass(each)]
    pairs = (pair for each in bodies if isinstance(each, ast.ClassDef) for pair in itertools.pairwise(each.body))
    for before, node in pairs:
        text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(text, str):
            under[before.target.id] = " ".join(text.split())
    return under


def help_of(key: str) -> str:
    """Return the help of one option, of the options below a part of the config, or of the keys of a list's items.

    Raises ValueError, one line, for an unknown key.
    """
    kind = type_at(key)
    item = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    if dataclasses.is_dataclass(item):
        whole = item is kind
        entries, lines = (
            _options(item, item, f"--{key}." if whole else ""),
            [f"{key}{':' if whole else ': keys of an item'}"],
        )
    else:
        prefix, _, name = key.rpartition(".")
        parent = type_at(prefix) if prefix else Config
        entries, lines = ((f"--{key}", *entry) for own, *entry in _options(parent, parent) if own == name), []
    return "\n".join([*lines, *(line for entry in entries for line in _option(*entry))])


def _option(head: str, kind: Any, text: str, value: Any) -> list[str]:
    """Return the lines of --key=TYPE beside its text, the keys of its items, choices and default."""
    text, _, default = text.partition(" (default:")
    if not default and value is not None and value != []:
        default = f" {str(value).lower() if isinstance(value, bool) else value})"
    words = [text, _choices(kind, text), default and f"(default:{default}"]
    item = typing.get_args(kind)[0] if typing.get_origin(kind) is list else None
    if item is not None and dataclasses.is_dataclass(item):
        words.insert(1, f"; keys of an item: {', '.join(children_of(item))}")
    filled = textwrap.wrap(" ".join(filter(None, words)).replace(" ;", ";"), WIDTH - COLUMN, break_on_hyphens=False)
    head = f"  {head}={_metavar(kind)}"
    lines, first = ([], head) if len(head) < COLUMN - 1 else ([head], "")
    return lines + [f"{(first if number == 0 else ''):{COLUMN}}{line}" for number, line in enumerate(filled)]


def _metavar(kind: Any) -> str:
    """Return a type as it stands behind the =."""
    members = [member for member in members_of(kind) if member is not type(None)]
    if any(typing.get_origin(member) is typing.Literal for member in members):
        return "WORD" if len(members) == 1 else "WORD|N"
    if bool in members:
        return "true|false"
    forms = {dict: "{...}", list: "[...]", int: "N", float: "X", str: "TEXT"}
    return "|".join(dict.fromkeys(forms.get(typing.get_origin(member) or member, "TEXT") for member in members))


def _choices(kind: Any, text: str) -> str:
    """Return the words that an option may be, unless the text has them all."""
    words = [
        word
        for member in members_of(kind)
        if typing.get_origin(member) is typing.Literal
        for word in typing.get_args(member)
    ]
    return "" if all(word in text for word in words) else f"[{', '.join(words)}]"
