"""What a reader finds in a graph file, and how it says what is wrong with one."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

import networkx as nx

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
FLOAT = re.compile(r"[+-]?[0-9]{1,18}\.0+")
GAPS = {"nan", "NaN", "None", "<NA>"}
"""What Python and pandas write where a cell is missing; NA may be Namibia."""
WORD = re.compile(r'"([^"]*)"|(\([^()]*\)|\S+)')
PLACES = (
    ("Longitude", "Latitude"),
    ("longitude", "latitude"),
    ("Lon", "Lat"),
    ("lon", "lat"),
    ("lng", "lat"),
    ("long", "lat"),
    ("X", "Y"),
    ("x", "y"),
)
Pair = tuple[Hashable, Hashable]


class Damaged(Exception):
    """What is wrong with a file, in one line; `read_graph` adds which file."""

    def __init__(self, expected: str, found: str, remedy: str = "repair it or write the graph again") -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}")


class Directed(Damaged):
    """Links that have a direction; `read_graph` adds what to do, which depends on the format."""

    def __init__(self, found: str, remedy: str = "") -> None:
        self.found = found
        super().__init__("undirected links, as training sends slices both ways over a link", found, remedy)


class Found:
    """The agents and links of a file, every link as often as it stands there.

    Node attributes of `graph`: `label`, a display name, and `pos`, (x, y), where the file has them.
    notes: what was read in another way than it stands there, one line each, for the user.
    """

    def __init__(self, name: str = "") -> None:
        self.graph = nx.MultiGraph(name=name)
        self.notes: list[str] = []

    def agent(self, node: Hashable, label: object = None, attributes: dict[str, Any] | None = None) -> None:
        """Declare an agent; attributes may hold its position. Raises Damaged for an agent declared before."""
        if node in self.graph:
            raise Damaged("a different id for every node", f"1 repeated, {shown(node)}", "rename one of the two")
        self.graph.add_node(node)
        if label is not None and str(label).strip():
            self.graph.nodes[node]["label"] = str(label).strip()
        if (place := place_of(attributes or {})) is not None:
            self.graph.nodes[node]["pos"] = place

    def link(self, one: Hashable, other: Hashable) -> None:
        """Link two declared agents; raises Damaged when one of them is not."""
        for node in (one, other):
            if node not in self.graph:
                raise Damaged(
                    "links between declared nodes", f"a link to the undeclared node {shown(node)}", "declare it"
                )
        self.graph.add_edge(one, other)

    def arcs(self, pairs: Iterable[Pair]) -> None:
        """Link agents whose links are listed from both ends, once per pair; raises Damaged for a one-way arc."""
        counts = Counter(pairs)
        done: set[Pair] = set()
        for one, other in counts:
            if (other, one) not in counts:
                raise Directed(f"a link from {shown(one)} to {shown(other)} without the way back")
            if (other, one) not in done:
                done.add((one, other))
                for _ in range(max(counts[one, other], counts[other, one])):
                    self.link(one, other)

    def labels(self) -> dict[Hashable, str] | None:
        """node -> display name, when every node has one and all differ."""
        labels = {node: str(label) for node, label in self.graph.nodes(data="label") if label is not None}
        return labels if len(labels) == len(self.graph) == len(set(labels.values())) else None


def check_written(names: Iterable[str]) -> None:
    """Refuse names of agents that no declaration has, and that pandas or Python have written for something else."""
    known = set(names)
    gap = next((name for name in sorted(known & GAPS)), None)
    if gap is not None:
        remedy = "remove these links, leave the target of an isolated agent empty, or rename the agent"
        raise Damaged("names of agents", f"{gap!r}, which is written for a gap", remedy)
    for name in sorted(filter(FLOAT.fullmatch, known)):
        whole_ = name.partition(".")[0]
        if whole_ in known:
            remedy = "write both as whole numbers (pandas makes floats of a column with gaps)"
            raise Damaged("one spelling of an agent", f"{whole_!r} and {name!r}", remedy)


def place_of(attributes: dict[str, Any]) -> tuple[float, float] | None:
    """(x, y) from attributes of a node: Longitude and Latitude, lon and lat, x and y, pos; None without."""
    pairs = [(attributes[x], attributes[y]) for x, y in PLACES if x in attributes and y in attributes]
    pos = attributes.get("pos")
    pairs += [tuple(pos.rstrip("!").split(",")[:2] if isinstance(pos, str) else pos[:2])] if pos else []
    for pair in pairs:
        try:
            x, y = map(float, pair)
        except (TypeError, ValueError):
            continue
        if math.isfinite(x) and math.isfinite(y):
            return x, y
    return None


def shown(node: Hashable) -> str:
    """A node for a message: a number as it is, a name in quotes."""
    return str(node) if INTEGER.fullmatch(str(node)) else repr(node)


def words(line: str) -> list[str]:
    """The words of a line, separated by blanks; "New York" and (0, 1) are one word each."""
    if '"' not in line and "(" not in line:
        return line.split()
    if line.count('"') % 2:
        raise Damaged("quotes in pairs", repr(line[:60]))
    return [bare or quoted for quoted, bare in WORD.findall(line)]


def whole(word: str, what: str, where: str) -> int:
    """A word as a whole number."""
    if not INTEGER.fullmatch(word):
        raise Damaged(f"{what} as a whole number", f"{word[:40]!r} {where}")
    return int(word)
