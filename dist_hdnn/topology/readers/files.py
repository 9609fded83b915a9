"""Communication graphs from files, in the formats of `readers`.

Every damaged file ends in a one-line ValueError: file, expected, found, what to do.
"""

import codecs
import difflib
import gzip
import io
import os
import zlib
from pathlib import Path

from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.numbering import from_networkx
from dist_hdnn.topology.readers import FORMATS, SHARED, Content, Damaged, Directed, looks_like

PLAIN_TO_SEE = ("graphml", "gexf", "gml", "json", "dot", "mtx", "pajek", "xgmml")
MOST_BYTES = 256 * 2**20
PICKLES = (".gpickle", ".pickle", ".pkl")
WAYS = dict.fromkeys(PICKLES, "networkx.write_graphml(pickle.load(open(FILE, 'rb')), 'graph.graphml')") | {
    ".mat": "numpy.save('graph.npy', scipy.io.loadmat(FILE)[NAME])",
    ".xlsx": "pandas.read_excel(FILE).to_csv('graph.csv', index=False)",
    ".parquet": "pandas.read_parquet(FILE).to_csv('graph.csv', index=False)",
    ".gt": "graph_tool.load_graph(FILE).save('graph.graphml')",
    ".leda": "networkx.write_graphml(networkx.read_leda(FILE), 'graph.graphml')",
    ".lg": "networkx.write_graphml(networkx.read_leda(FILE), 'graph.graphml')",
    ".osm": "osmnx.save_graphml(osmnx.graph_from_xml(FILE).to_undirected(), 'graph.graphml')",
    ".pbf": "osmnx.save_graphml(osmnx.graph_from_place(PLACE).to_undirected(), 'graph.graphml')",
    ".zip": "unpack it and give the path of the file inside",
}
"""Suffixes that are not read -> how to make a file that is."""
BY_NETWORKX = "convert it with networkx: write_graphml({}(FILE).to_undirected(), 'graph.graphml')"
UNDIRECTED = {kind: BY_NETWORKX.format(f"read_{kind}") for kind in ("graphml", "gexf", "gml", "pajek")} | {
    "json": "convert it with networkx: graph.to_undirected()",
    "csv": "drop the column, or write Undirected, where the direction does not matter",
    "dot": "write graph for digraph and -- for ->, where the direction does not matter",
    "xgmml": 'write directed="0", where the direction does not matter',
    "matrix": "add the transpose: matrix + matrix.T",
    "mtx": "add the transpose: scipy.io.mmwrite(FILE, matrix + matrix.T)",
}
"""Format -> how to make a directed graph undirected."""


def read_graph(path: str | os.PathLike[str], format: str | None = None) -> CommunicationGraph:
    """Read a communication graph, by its suffix and content or by `format`, one of `FORMATS`. Unpack .gz.

    docs/graphs.md lists the formats and their used fields. Agents are numbered by sorted node identity, never by file
    order: ids; the labels of GML when every node has one and all differ. A `label`, else a `name`, of every node names
    the agents when all differ. Positions (Longitude and Latitude, lon and lat, x and y, pos) place them in pictures.
    Weights and other attributes are not used; `link_records` has those of links. Repeated links and self-loops are
    merged and dropped with a warning.
    Raises ValueError (one line, naming the file) when it is missing, empty, damaged, directed or of another kind.
    """
    content, stem = read_content(Path(path), format)
    return from_networkx(content.graph, content.graph.name or stem, labels=content.labels(), notes=content.notes)


def read_content(path: Path, format: str | None) -> tuple[Content, str]:
    """Return the content of a file and the name of the file without suffixes. Raises ValueError as `read_graph`."""
    try:
        _check_format(format)
        data, name = _contents(path)
        kind = _kind(name, data, format)
        content = _read(kind, data)
        if content.graph.number_of_nodes() == 0:
            raise Damaged("at least one agent", "a graph without nodes", "add nodes to it")
    except Damaged as damage:
        raise ValueError(f"{path}: {damage}") from None
    return content, name.stem


def _read(kind: str, data: bytes) -> Content:
    """Read the content by the reader of this format. Damaged files make parsers raise nearly anything."""
    try:
        return FORMATS[kind].read(data if FORMATS[kind].binary else _text(data, kind))
    except Directed as error:
        raise Directed(error.found, UNDIRECTED.get(kind, "list every link from both ends")) from None
    except Damaged:
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:160]
        if isinstance(error, LookupError | TypeError | RecursionError):
            detail = f"{type(error).__name__} {detail}"
        raise Damaged(f"complete, well-formed {kind}", f"damage ({detail})") from error


def _check_format(format: str | None) -> None:
    kinds = list(FORMATS)
    if format is not None and format not in kinds:
        nearest = difflib.get_close_matches(format, kinds, n=1, cutoff=0.0)[0]
        raise Damaged(f"a format among {', '.join(kinds)}", repr(format), f"did you mean {nearest!r}?")


def _kind(name: Path, data: bytes, format: str | None) -> str:
    """Return the format: as asked for, else by the suffix, or by the content where formats share the suffix."""
    suffix = name.suffix.lower()
    by_suffix = next((kind for kind, one in FORMATS.items() if suffix in one.suffixes), None)
    kind = format or by_suffix or ("edgelist" if name.name.startswith("out.") else None)
    if kind is None and suffix not in SHARED:
        raise _unknown(suffix)
    as_array = kind == "matrix" and (format is None or data.startswith((b"\x93NUMPY", b"PK")))
    if as_array or kind in ("graph6", "sparse6"):
        return str(kind)
    text = _text(data, kind or "graph", strict=kind is None or not FORMATS[kind].binary)
    looks = looks_like(text, as_links=kind != "adjlist")
    if format == "matrix" or (format in ("edgelist", "adjlist", "csv") and looks == "matrix"):
        return format
    if looks not in (None, kind):
        if format is None and suffix in SHARED:
            return looks
        raise Damaged(str(kind), f"what looks like {looks}", f"rename it or give format={looks!r}")
    start = text.strip()[:40]
    xml = start.startswith("<") and kind is not None and FORMATS[kind].binary  # its reader names the root
    if kind is None or (looks is None and kind in PLAIN_TO_SEE and not xml):
        raise Damaged(kind or "a graph", f"text that starts with {start!r}", "rename it or write the graph again")
    return kind


def _unknown(suffix: str) -> Damaged:
    suffixes = [suffix for one in FORMATS.values() for suffix in one.suffixes]
    way = WAYS.get(suffix, "networkx.write_graphml(graph, 'graph.graphml')")
    return Damaged(
        f"one of the suffixes {' '.join(suffixes)}",
        f"the suffix {suffix!r}" if suffix else "none",
        f"rename it, give format ({', '.join(FORMATS)}), or convert it{'' if ' and ' in way else ' in Python'}: {way}",
    )


def _contents(path: Path) -> tuple[bytes, Path]:
    """Return the bytes of a regular file of bearable size, unpacked, and its name without .gz."""
    limit = f"at most {MOST_BYTES // 2**20} MiB"
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise Damaged("a file", "a directory" if path.is_dir() else "a device or pipe", "give a file's path")
        if size > MOST_BYTES:
            raise Damaged(limit, f"{size / 2**20:.0f} MiB", "pass a networkx.Graph in Python instead")
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise Damaged(limit, "more when it is unpacked", "pass a networkx.Graph in Python instead")
    except FileNotFoundError:
        raise Damaged("a graph file", "nothing there", "check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Damaged("a complete gzip file", "damage", "write it again") from None
    except OSError as error:
        raise Damaged("a readable file", error.strerror or str(error), "check the path and permissions") from None
    if not data.strip():
        raise Damaged("a graph", "an empty file", "write the graph again")
    return data.removeprefix(codecs.BOM_UTF8), Path(path.stem) if path.suffix.lower() == ".gz" else path


def _text(data: bytes, kind: str, strict: bool = True) -> str:
    """Return the text of a file. strict: refuse bytes that are not text, which XML explains by its own encoding."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        text = data.decode(encoding, errors="strict" if strict else "replace")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        remedy = "write it again as UTF-8 (of a Latin-1 file: iconv -f latin1 -t utf-8 FILE)"
        raise Damaged(
            f"{kind} text in UTF-8", f"bytes that are not text at offset {error.start}, line {line}", remedy
        ) from None
    if "\0" in text or (not strict and text.startswith("\ufffd")):
        raise Damaged(f"{kind} text", "binary data", "give the path of a text file")
    return text
