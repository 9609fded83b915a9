"""Readers of graph files: one function per format, from the bytes or text of a file to its agents and links."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from dist_hdnn.topology.readers.content import Content, Damaged, Directed
from dist_hdnn.topology.readers.dot import read_dot
from dist_hdnn.topology.readers.gml import read_gml
from dist_hdnn.topology.readers.lists import read_adjlist, read_edgelist, read_lgl, read_sif
from dist_hdnn.topology.readers.markup import (
    ROOTS,
    read_core,
    read_fnss,
    read_gexf,
    read_graphml,
    read_sndlib,
    read_xgmml,
)
from dist_hdnn.topology.readers.records import read_json
from dist_hdnn.topology.readers.sections import (
    read_brite,
    read_gdf,
    read_matpower,
    read_metis,
    read_pajek,
    read_repetita,
    read_sndlib_native,
)
from dist_hdnn.topology.readers.tables import looks_like_matrix, read_compact, read_csv, read_matrix, read_mtx

__all__ = ["FORMATS", "SHARED", "Damaged", "Directed", "Format", "Content", "looks_like"]


class Format(NamedTuple):
    """The suffixes and the reader of a format. read: takes bytes if binary, else text."""

    suffixes: tuple[str, ...]
    read: Callable[[Any], Content]
    binary: bool = False


FORMATS = {
    "graphml": Format((".graphml",), read_graphml, True),
    "gexf": Format((".gexf",), read_gexf, True),
    "gml": Format((".gml",), read_gml),
    "json": Format((".json", ".cyjs"), read_json),
    "edgelist": Format((".edges", ".edgelist", ".txt", ".ncol"), read_edgelist),
    "csv": Format((".csv", ".tsv"), read_csv),
    "adjlist": Format((".adj", ".adjlist"), read_adjlist),
    "matrix": Format((".npy", ".npz"), read_matrix, True),
    "mtx": Format((".mtx",), read_mtx, True),
    "dot": Format((".dot", ".gv"), read_dot),
    "pajek": Format((".net", ".paj"), read_pajek),
    "metis": Format((".graph", ".metis"), read_metis),
    "repetita": Format((), read_repetita),
    "graph6": Format((".g6", ".graph6"), read_compact, True),
    "sparse6": Format((".s6", ".sparse6"), read_compact, True),
    "xgmml": Format((".xgmml",), read_xgmml, True),
    "sif": Format((".sif",), read_sif),
    "sndlib": Format((".xml",), read_sndlib, True),
    "sndlib-native": Format((), read_sndlib_native),
    "core": Format((), read_core, True),
    "fnss": Format((), read_fnss, True),
    "matpower": Format((".m",), read_matpower),
    "lgl": Format((".lgl",), read_lgl),
    "gdf": Format((".gdf",), read_gdf),
    "brite": Format((".brite",), read_brite),
}
SHARED = (".txt", ".xml", ".net", ".graph", ".csv", ".tsv", ".adj", ".adjlist", ".dat")
"""Suffixes of several formats, where the content decides."""
HEADS = {
    "mtx": re.compile(r"%%MatrixMarket\b"),
    "dot": re.compile(r"(\s|//.*|/\*(.|\n)*?\*/|#.*)*(strict\s+)?(di)?graph\b[^\[{]*\{", re.IGNORECASE),
    "pajek": re.compile(r"(\s|%.*\n)*\*(network|vertices)\b", re.IGNORECASE),
    "repetita": re.compile(r"\s*NODES\s+\d+\s*\n"),
    "sndlib-native": re.compile(r"\s*\?SNDlib native"),
    "matpower": re.compile(r"(\s|%.*\n)*function\s+mpc\b"),
    "gdf": re.compile(r"\s*nodedef>", re.IGNORECASE),
    "brite": re.compile(r"\s*Topology:\s*\("),
    "gml": re.compile(r'^(\s|#[^\n]*\n|\w+\s+("[^"]*"|[^\s"\[\]]+)\s)*\s*graph\s*\['),
}
XML_ROOT = re.compile(r"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)")


def looks_like(text: str, as_links: bool = True) -> str | None:
    """Return the format of a text where it is plain to see. as_links: the text might be an edge list."""
    start = text.lstrip()[:1]
    if start == "<":
        root = XML_ROOT.search(text)
        return ROOTS.get(root[1]) if root else None
    if start in ("{", "["):
        return "json"
    kind = next((kind for kind, head in HEADS.items() if head.match(text)), None)
    return kind or ("matrix" if looks_like_matrix(text, as_links) else None)
