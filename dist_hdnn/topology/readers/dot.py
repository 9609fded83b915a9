"""DOT of Graphviz: graphs, not digraphs, with subgraphs, chains and attributes."""

import re
from itertools import pairwise, product

from dist_hdnn.topology.readers.content import Content, Damaged, Directed, degrees_of, place_of, tokens

TOKEN = re.compile(
    r"\s+|//[^\n]*|/\*.*?\*/|^\#[^\n]*|"
    r'(?P<text>"(?:\\.|[^"\\])*")|(?P<html><(?:[^<>]|<[^<>]*>)*>)|(?P<mark>--|->|[{}\[\]=;,:+])|'
    r"(?P<word>-?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?![\w.])|[^\W]+)",
    re.DOTALL | re.MULTILINE,
)
Token = tuple[str, str]  # kind, text
Defaults = dict[str, dict[str, str]]


def read_dot(text: str) -> Content:
    """Read DOT. Agents are named by their ids, or by labels that differ."""
    parser = _Parser([_unquoted(kind, token) for kind, token, _ in tokens(TOKEN, text)])
    parser.skip("strict")
    if parser.next_is("digraph"):
        raise Directed("a directed graph")
    if not parser.skip("graph"):
        raise Damaged("graph { ... }", f"{parser.take()[1][:40]!r}")
    content = parser.content
    if not parser.next_is("{"):
        content.graph.graph["name"] = parser.take()[1]
    parser.block({"node": {}, "edge": {}})
    if parser.tokens:
        raise Damaged("one graph", f"{parser.tokens[-1][1][:40]!r} after it", "keep one graph")
    for node, attributes in parser.attributes.items():
        label = attributes.get("label", "").replace("\\N", node).replace("\\n", " ").strip()
        if label:
            content.graph.nodes[node]["label"] = label
        if (place := place_of(dict(attributes))) is not None:
            content.graph.nodes[node]["pos"] = place
        if (degrees := degrees_of(attributes)) is not None:
            content.graph.nodes[node]["degrees"] = degrees
    return content


def _unquoted(kind: str, token: str) -> Token:
    return kind, re.sub(r'\\(["\\])|\\\n', r"\1", token[1:-1]) if kind == "text" else token


class _Parser:
    """Recursive descent over the tokens, the next of which is the last of the list."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens[::-1]
        self.content = Content()
        self.attributes: dict[str, dict[str, str]] = {}

    def next_is(self, *texts: str) -> bool:
        """Return whether the next token is a keyword or mark of these."""
        return bool(self.tokens) and self.tokens[-1][0] in ("mark", "word") and self.tokens[-1][1].lower() in texts

    def take(self) -> Token:
        """Remove and return the next token."""
        if not self.tokens:
            raise ValueError("the file ends inside { }")
        return self.tokens.pop()

    def skip(self, *texts: str) -> bool:
        """Remove the next token if it is one of these."""
        return self.next_is(*texts) and bool(self.tokens.pop())

    def block(self, defaults: Defaults) -> list[str]:
        """Parse { statements } and return the nodes inside. defaults: attributes of nodes and of edges."""
        if not self.skip("{"):
            raise ValueError(f"{self.take()[1][:40]!r} in place of {{")
        inside: dict[str, None] = {}
        defaults = {kind: dict(options) for kind, options in defaults.items()}
        while not self.skip("}"):
            if self.skip(";", ","):
                continue
            if self.next_is("graph", "node", "edge"):
                kind, options = self.take()[1].lower(), self.options()
                (self.content.facts if kind == "graph" else defaults[kind]).update(options)
            else:
                inside.update(dict.fromkeys(self.statement(defaults)))
        return list(inside)

    def statement(self, defaults: Defaults) -> list[str]:
        """Parse a node, a chain of links, a subgraph or an assignment, and return its nodes."""
        if len(self.tokens) > 1 and self.tokens[-2] == ("mark", "="):
            name, _, value = (self.take()[1] for _ in range(3))
            self.content.facts[name] = value
            return []
        ends = [self.end(defaults)]
        while self.next_is("--", "->"):
            if self.take()[1] == "->":
                raise Directed(f"an arrow after {ends[-1][-1:]}")
            ends.append(self.end(defaults))
        options = self.options()
        for left, right in pairwise(ends):
            for one, other in product(left, right):
                self.content.link(one, other, defaults["edge"] | options)
        if len(ends) == 1 and len(ends[0]) == 1:
            self.attributes[ends[0][0]].update(options)
        return [node for end in ends for node in end]

    def end(self, defaults: Defaults) -> list[str]:
        """Parse one end of a link and return its nodes: one, or all of a subgraph."""
        if self.skip("subgraph") and not self.next_is("{"):
            self.take()  # its name
        if self.next_is("{"):
            return self.block(defaults)
        kind, node = self.take()
        if kind == "mark":
            raise ValueError(f"{node!r} in place of a node")
        while self.skip(":"):
            self.take()  # a port
        self.content.graph.add_node(node)
        self.attributes.setdefault(node, dict(defaults["node"]))
        return [node]

    def options(self) -> dict[str, str]:
        """Parse [a=b, c=d] ... and return the attributes."""
        options: dict[str, str] = {}
        while self.skip("["):
            while not self.skip("]"):
                if self.skip(",", ";"):
                    continue
                key = self.take()[1]
                if self.skip("="):
                    kind, value = self.take()
                    options[key] = "" if kind == "html" else value
        return options
