"""YAML that refuses a repeated key and a number in disguise, and quotes words as written.

YAML 1.1 reads NO as false, 010 as 8 and 1:30 as 90, and PyYAML keeps the last of two equal keys without a word.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from dist_hdnn.config.paths import folder

# Octal, and base 60 as in 1:30; plain zeros are left alone.
DISGUISED = re.compile(r"[-+]?(0[0-9_]*[1-9][0-9_]*|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class Ambiguous(yaml.MarkedYAMLError):
    """Well-formed YAML that would not be read as meant."""


class _Loader(yaml.SafeLoader):
    """Safe loader of PyYAML that refuses what would be lost or read as another number."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.tag in NUMBERS:
            if DISGUISED.fullmatch(node.value):
                value = yaml.safe_load(node.value)
                raise Ambiguous(
                    problem=f"YAML reads {node.value} as {value}; write {value}, or '{node.value}' for text",
                    problem_mark=node.start_mark,
                )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # before << is resolved: merging may override
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in lines:
                first, second = lines[key.tag, key.value], key.start_mark.line + 1
                where = f"twice on line {first}" if first == second else f"on line {first} and on line {second}"
                raise Ambiguous(
                    problem=f"the key {key.value} is given {where}; keep one of them", problem_mark=key.start_mark
                )
            lines[key.tag, key.value] = key.start_mark.line + 1
        return node


def load(text: str) -> Any:
    """Return the value of YAML text. Raises yaml.YAMLError, also for a repeated key and for 010 and 1:30."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="nested too deeply") from None


def read_yaml(path: str, what: str) -> Any:
    """Return the value of a YAML file. Raises ValueError, one line that says `what` file it is."""
    try:
        return load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such {what} file; examples lie in {folder()}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a YAML {what} file, got a directory") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot read this {what} file: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a YAML {what} file in UTF-8, got a binary file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {_complaint(error)}") from None


def _complaint(error: yaml.YAMLError) -> str:
    """Return the place and the problem in one line."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
    ours = isinstance(error, Ambiguous)
    return f"{where}{'' if ours else 'not valid YAML: '}{' '.join(str(problem).split())}"


def as_written(text: str, key: str) -> str | None:
    """Return the scalar that stands in YAML text at a key such as sensors[0].agent, or None."""
    node = yaml.compose(text, Loader=_Loader)
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
        else:
            return None
    return node.value if isinstance(node, yaml.ScalarNode) and node.style is None else None
