"""Options by their types, made from YAML values, or refused.

A refusal is one line with the full dotted key, expected, got and the nearest known key or value.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from dist_hdnn.config.run import Config


def built(value: Any, kind: Any, key: str = "") -> Any:
    """Return a value from YAML as a `kind`, with its config dataclasses made.

    key: its full dotted name. Raises ValueError, one line, for an unknown key and a value of the wrong type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _built_options(value, kind, key)
    if origin is list and isinstance(value, list):
        return [built(item, arguments[0], f"{key}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        for name in value:
            if isinstance(name, bool):
                raise ValueError(f"{key}: expected names, got {name}{_quotes('', name, None)}")
        return {name: built(item, arguments[1], f"{key}.{name}") for name, item in value.items()}
    members = members_of(kind)
    nested = [member for member in members if typing.get_origin(member) is type(value) and len(members) > 1]
    if nested and isinstance(value, dict | list):
        return built(value, nested[0], key)
    lists = [member for member in members if typing.get_origin(member) is list and len(members) > 1]
    if lists and isinstance(value, list):
        return built(value, lists[0], key)
    fitting = [member for member in members if _is_plain(value, member)]
    if not fitting:
        raise Mismatch(value, kind, key)
    return float(value) if fitting == [float] else value


def _built_options(value: Mapping[Any, Any], kind: Any, key: str) -> Any:
    children, prefix = children_of(kind), f"{key}." if key else ""
    options = {}
    for name, item in value.items():
        if name not in children:
            raise _unknown(f"{prefix}{name}", str(name), kind, prefix)
        options[name] = built(item, children[name], f"{prefix}{name}")
    for field in dataclasses.fields(kind):
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and field.name not in value:
            raise ValueError(f"{prefix}{field.name}: expected {describe(children[field.name])}, got nothing; add it")
    return kind(**options)


def children_of(kind: Any) -> dict[str, Any]:
    """Return field -> type of a config dataclass, nothing for other types."""
    return typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}


def members_of(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or any other type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def type_at(key: str) -> Any:
    """Return the type of the option at a dotted key. Raises ValueError, one line, for an unknown key."""
    kind: Any = Config
    done = ""
    for part in key.split("."):
        if part not in children_of(kind):
            raise _unknown(key, part, kind, done)
        kind = children_of(kind)[part]
        done += f"{part}."
    return kind


def _all_keys(kind: Any = Config, prefix: str = "") -> list[str]:
    own = [f"{prefix}{name}" for name in children_of(kind)]
    return own + [key for name, child in children_of(kind).items() for key in _all_keys(child, f"{prefix}{name}.")]


def _unknown(key: str, name: str, kind: Any, prefix: str) -> ValueError:
    """Return the error for an unknown key, with the nearest name beside it or elsewhere, or else the known names.

    name: the unknown part of key, after prefix and inside the config dataclass `kind`.
    """
    siblings = list(children_of(kind))
    rest = key.removeprefix(f"{prefix}{name}")  # what follows the misspelt part, as in grahp.agents
    near = [f"{prefix}{sibling}{rest}" for sibling in difflib.get_close_matches(name, siblings, 1, 0.6)]
    near = near or [other for other in _all_keys() if other.split(".")[-1] == key.split(".")[-1]]
    near = near or difflib.get_close_matches(key, _all_keys(), 1, 0.6)
    if near:
        return ValueError(f"unknown key {key}; did you mean {near[0]}?")
    if siblings:
        return ValueError(f"unknown key {key}; known here: {', '.join(siblings)}")
    return ValueError(f"unknown key {key}; {prefix.removesuffix('.')} takes a value, not further keys")


def describe(kind: Any) -> str:
    """Return a type in words."""
    if len(members_of(kind)) > 1:
        return " or ".join(describe(member) for member in members_of(kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is dict:
        return f"a mapping from names to {describe(arguments[1])}"
    if origin is list:
        return f"a list, each {describe(arguments[0])}"
    if dataclasses.is_dataclass(kind):
        return f"a mapping with the keys {', '.join(children_of(kind))}"
    return {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}[kind]


def _is_plain(value: Any, kind: Any) -> bool:
    """Test for a simple type, with 1e-3 (text in YAML 1.1) a number, and true and nan none."""
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    if kind is float and isinstance(value, int | float | str):
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    return isinstance(kind, type) and isinstance(value, kind)


class Mismatch(ValueError):
    """A value of the wrong type at a key."""

    def __init__(self, value: Any, kind: Any, key: str, written: str | None = None) -> None:
        self.value, self.kind, self.key = value, kind, key
        super().__init__(_mismatch(value, kind, key, written))

    def quoting(self, written: str | None) -> Mismatch:
        """Return the same error with the word that YAML read as this value."""
        return Mismatch(self.value, self.kind, self.key, written)


def _mismatch(value: Any, kind: Any, key: str, written: str | None) -> str:
    """Return expected, got, and what to do. written: the value as the file has it, if known."""
    shown = "nothing" if value is None else repr(value)
    text = f"{key or 'config'}: expected {describe(kind)}, got {shown if len(shown) < 80 else shown[:76] + '...'}"
    if str in members_of(kind) and value is not None and not isinstance(value, dict | list):
        return text + _quotes(key.split(".")[-1], value, written)
    if typing.get_origin(kind) is typing.Literal and isinstance(value, str):
        near = difflib.get_close_matches(value, typing.get_args(kind), 1)
        text += f"; did you mean {near[0]}?" if near else ""
    return text if ";" in text else f"{text}; correct the value"


def _quotes(name: str, value: Any, written: str | None) -> str:
    """Say how to write a word that YAML reads as another value, such as NO."""
    if written is None and isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true and false: put quotes around the word"
    if written in (None, str(value)):
        return f"; write {name}: '{value}'"
    return f"; YAML reads {written} as {str(value).lower()}: put quotes around it, {name}: '{written}'"
