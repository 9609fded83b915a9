"""The agents and links of a graph file, and the errors of readers.

A reader raises Damaged where it can say what was expected, Directed for a link with a direction, and ValueError with
the place of anything else. `read_graph` adds the file.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
"""Names of the attributes that hold a position."""
ON_EARTH = PLACES[:6]
"""The ones among them that are degrees."""
Pair = tuple[Hashable, Hashable]
Attributes = Mapping[str, Any] | Callable[[], Mapping[str, Any]]  # called where they are used
Record = tuple[Hashable, Hashable, bool, Attributes]


class Damaged(Exception):
    """The damage of a file, in one line. `read_graph` adds which file."""

    def __init__(self, expected: str, found: str, remedy: str = "repair it or write the graph again") -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}")


class Directed(Damaged):
    """A link that has a direction. `read_graph` adds the remedy, which depends on the format."""

    def __init__(self, found: str, remedy: str = "") -> None:
        self.found = found
        super().__init__("undirected links, as training sends slices both ways over a link", found, remedy)


class Content:
    """The agents and links of a file, every link as often as it is listed.

    Node attributes of `graph`: `label`, a display name, `pos`, (x, y), and `degrees`, (longitude, latitude), where the
    file has them. records: (one, other, whether it holds for both directions, attributes) per listed link, where the
    format has attributes. facts: attributes of the whole graph.
    notes: how the file was read where that is open to doubt, one line each, for the user.
    """

    def __init__(self, name: str = "") -> None:
        self.graph = nx.MultiGraph(name=name)
        self.records: list[Record] = []
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []

    def agent(self, node: Hashable, label: object = None, attributes: dict[str, Any] | None = None) -> None:
        """Declare an agent, whose attributes may hold its position. Raises Damaged for a second declaration."""
        if node in self.graph:
            raise Damaged("a different id for every node", f"1 repeated, {shown(node)}", "rename one of the two")
        self.graph.add_node(node)
        if label is not None and str(label).strip():
            self.graph.nodes[node]["label"] = str(label).strip()
        if (place := place_of(attributes or {})) is not None:
            self.graph.nodes[node]["pos"] = place
        if (degrees := degrees_of(attributes or {})) is not None:
            self.graph.nodes[node]["degrees"] = degrees

    def link(self, one: Hashable, other: Hashable, attributes: Attributes | None = None, both: bool = True) -> None:
        """Link two declared agents. Raises Damaged when one of them is not declared.

        both: the attributes hold for both directions, not only from one to other.
        """
        for node in (one, other):
            if node not in self.graph:
                raise Damaged(
                    "links between declared nodes", f"a link to the undeclared node {shown(node)}", "declare it"
                )
        self.graph.add_edge(one, other)
        if attributes is not None:
            self.records.append((one, other, both, attributes))

    def arcs(self, pairs: Iterable[Pair]) -> None:
        """Link agents whose links are listed from both ends, once per pair. Raises Directed for a one-way arc."""
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
        """Return node -> display name, when every node has one and all differ."""
        labels = distinct([label for _, label in self.graph.nodes(data="label")])
        return None if labels is None else dict(zip(self.graph, labels, strict=True))


def distinct(*candidates: Sequence[str | None]) -> list[str] | None:
    """Return the first list of names in which no name is missing or empty and all differ."""
    for names in candidates:
        texts = [name for name in names if name]
        if len(set(texts)) == len(names):
            return texts
    return None


def check_names(names: Iterable[str]) -> None:
    """Refuse what pandas or Python write for a gap or for a number, where names of agents are expected."""
    distinct_names = set(names)
    gap = min(distinct_names & GAPS, default=None)
    if gap is not None:
        remedy = "remove these links, leave the target of an isolated agent empty, or rename the agent"
        raise Damaged("names of agents", f"{gap!r}, which is written for a gap", remedy)
    for name in sorted(filter(FLOAT.fullmatch, distinct_names)):
        integer = name.partition(".")[0]
        if integer in distinct_names:
            remedy = "write both as whole numbers (pandas makes floats of a column with gaps)"
            raise Damaged("one spelling of an agent", f"{integer!r} and {name!r}", remedy)


def place_of(attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return (x, y) from attributes of a node, by the names of PLACES or from `pos`, or None."""
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


def degrees_of(attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return (longitude, latitude) from attributes of a node, or None."""
    names = [pair for pair in ON_EARTH if set(pair) <= set(attributes)]
    place = place_of({name: attributes[name] for name in names[0]}) if names else None
    return place if place is not None and abs(place[0]) <= 360 and abs(place[1]) <= 90 else None


def shown(node: Hashable) -> str:
    """Return a node for a message: a number as it is, a name in quotes."""
    return str(node) if INTEGER.fullmatch(str(node)) else repr(node)


def on_line(text: str, number: int) -> str:
    """Return a text and its line for a message."""
    return f"{text[:60]!r} on line {number}"


def lines(text: str, *comments: str) -> list[tuple[int, str]]:
    """Return (line number, line) without blank lines, blanks around a line, and lines that start as comments."""
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line and not line.startswith(comments)]


def tokens(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str, int]]:
    """Yield (name of the group, token, line) for the groups of the pattern, which matches blanks without a group."""
    place, line = 0, 1
    while place < len(text):
        match = pattern.match(text, place)
        if match is None:
            raise ValueError(f"{text[place : place + 20]!r} on line {line}")
        if match.lastgroup is not None:
            yield match.lastgroup, match.group(), line
        line += match.group().count("\n")
        place = match.end()


def words(line: str) -> list[str]:
    """Return the words of a line, separated by blanks. "New York" and (0, 1) are one word each."""
    if '"' not in line and "(" not in line:
        return line.split()
    if line.count('"') % 2:
        raise Damaged("quotes in pairs", repr(line[:60]))
    return [bare or quoted for quoted, bare in WORD.findall(line)]


def whole(word: str, what: str, where: str) -> int:
    """Return a word as a whole number."""
    if not INTEGER.fullmatch(word):
        raise Damaged(f"{what} as a whole number", f"{word[:40]!r} {where}")
    return int(word)
