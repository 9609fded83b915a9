"""DOT of Graphviz: graphs, not digraphs, with subgraphs, chains and attributes."""

import re
from itertools import pairwise, product

from dist_hdnn.topology.readers.found import Damaged, Directed, Found, place_of

TOKEN = re.compile(
    r"\s+|//[^\n]*|/\*.*?\*/|^\#[^\n]*|"
    r'(?P<text>"(?:\\.|[^"\\])*")|(?P<html><(?:[^<>]|<[^<>]*>)*>)|(?P<mark>--|->|[{}\[\]=;,:+])|'
    r"(?P<word>-?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?![\w.])|[^\W]+)",
    re.DOTALL | re.MULTILINE,
)
Token = tuple[str, str]  # kind, text


def read_dot(text: str) -> Found:
    """Agents are named by their ids, or by labels that differ."""
    parser = _Parser(_tokens(text))
    if parser.next_is("strict"):
        parser.take()
    if parser.next_is("digraph"):
        raise Directed("a directed graph")
    if not parser.next_is("graph"):
        raise Damaged("graph { ... }", f"{parser.take()[1][:40]!r}")
    parser.take()
    if not parser.next_is("{"):
        parser.found.graph.graph["name"] = parser.take()[1]
    parser.block({})
    if parser.tokens:
        raise Damaged("one graph", f"{parser.tokens[-1][1][:40]!r} after it", "keep one graph")
    for node, attributes in parser.attributes.items():
        label = attributes.get("label", "").replace("\\N", node).replace("\\n", " ").strip()
        if label:
            parser.found.graph.nodes[node]["label"] = label
        if (place := place_of(dict(attributes))) is not None:
            parser.found.graph.nodes[node]["pos"] = place
    return parser.found


class _Parser:
    """Recursive descent over the tokens, the next of which is the last of the list."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens[::-1]
        self.found = Found()
        self.attributes: dict[str, dict[str, str]] = {}

    def next_is(self, *texts: str) -> bool:
        """Whether the next token is a keyword or mark of these."""
        return bool(self.tokens) and self.tokens[-1][0] in ("mark", "word") and self.tokens[-1][1].lower() in texts

    def take(self) -> Token:
        if not self.tokens:
            raise Damaged("complete, well-formed dot", "damage (the file ends inside { })")
        return self.tokens.pop()

    def expect(self, text: str) -> None:
        if not self.next_is(text):
            raise Damaged("complete, well-formed dot", f"damage ({self.take()[1][:40]!r} in place of {text})")
        self.take()

    def block(self, defaults: dict[str, str]) -> list[str]:
        """{ statements }: the nodes that stand in it."""
        self.expect("{")
        inside: dict[str, None] = {}
        defaults = dict(defaults)
        while not self.next_is("}"):
            if self.next_is(";", ","):
                self.take()
            elif self.next_is("graph", "node", "edge"):
                kind = self.take()[1].lower()
                defaults.update(self.options() if kind == "node" else self.options() and {})
            else:
                inside.update(dict.fromkeys(self.statement(defaults)))
        self.take()
        return list(inside)

    def statement(self, defaults: dict[str, str]) -> list[str]:
        """A node, a chain of links, a subgraph or an assignment."""
        if len(self.tokens) > 1 and self.tokens[-2] == ("mark", "="):
            for _ in range(3):
                self.take()
            return []
        ends = [self.end(defaults)]
        while self.next_is("--", "->"):
            if self.take()[1] == "->":
                raise Directed(f"an arrow after {ends[-1][-1:]}")
            ends.append(self.end(defaults))
        options = self.options()
        for left, right in pairwise(ends):
            self.found.graph.add_edges_from(product(left, right))
        if len(ends) == 1 and len(ends[0]) == 1:
            self.attributes[ends[0][0]].update(options)
        return [node for end in ends for node in end]

    def end(self, defaults: dict[str, str]) -> list[str]:
        """One node, or all nodes of a subgraph."""
        if self.next_is("subgraph"):
            self.take()
            if not self.next_is("{"):
                self.take()
        if self.next_is("{"):
            return self.block(defaults)
        kind, node = self.take()
        if kind == "mark":
            raise Damaged("complete, well-formed dot", f"damage ({node!r} in place of a node)")
        while self.next_is(":"):  # a port
            self.take()
            self.take()
        self.found.graph.add_node(node)
        self.attributes.setdefault(node, dict(defaults))
        return [node]

    def options(self) -> dict[str, str]:
        """[a=b, c=d] ...: attributes."""
        options: dict[str, str] = {}
        while self.next_is("["):
            self.take()
            while not self.next_is("]"):
                if self.next_is(",", ";"):
                    self.take()
                    continue
                key = self.take()[1]
                if self.next_is("="):
                    self.take()
                    kind, value = self.take()
                    options[key] = "" if kind == "html" else value
            self.take()
        return options


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            line = text.count("\n", 0, place) + 1
            raise Damaged("complete, well-formed dot", f"damage ({text[place : place + 20]!r} on line {line})")
        if match.lastgroup is not None:
            token = match.group()
            token = re.sub(r'\\(["\\])|\\\n', r"\1", token[1:-1]) if match.lastgroup == "text" else token
            tokens.append((match.lastgroup, token))
        place = match.end()
    return tokens
