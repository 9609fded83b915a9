"""Lists, a line per link or agent: edge lists (also of KONECT and NCOL), adjacency lists, SIF and LGL."""

import re
from collections.abc import Callable, Sequence

from dist_hdnn.topology.readers.found import INTEGER, NUMBER, Damaged, Found, check_written, words

ENDS = (
    ("source", "target"),
    ("from", "to"),
    ("src", "dst"),
    ("src", "dest"),
    ("u", "v"),
    ("i", "j"),
    ("node1", "node2"),
    ("node_1", "node_2"),
    ("from_node", "to_node"),
    ("fromnode", "tonode"),
    ("fromnodeid", "tonodeid"),
    ("from_bus", "to_bus"),
    ("source_id", "target_id"),
)
"""Names of the two columns of a table of links, in small letters."""
KONECT = re.compile(r"^%\s*(sym|asym|bip|directed|undirected|bipartite)\b")
AS_TABLE = "write a table of links instead (.csv with the columns source and target)"
Rows = list[tuple[int, list[str]]]  # line number, words


def read_edgelist(text: str) -> Found:
    """A link a line: "a b", "a b 1.5" or "a b {...}"; "a" alone is an isolated agent."""
    found = Found()
    konect = KONECT.match(text)
    most = 4 if konect else 3  # KONECT: weight and time

    def fits(row: Sequence[str]) -> bool:
        return len(row) <= most and all(NUMBER.fullmatch(word) for word in row[2:])

    rows = _rows(text, fits)
    if not konect:
        rows = _without_heading(rows, found)
    links: Rows = []
    for number, row in rows:
        if not fits(row):
            if any("," in word or ";" in word for word in row):
                raise Damaged("agents separated by blanks", f"{' '.join(row)[:60]!r} on line {number}", AS_TABLE)
            remedy = f"for names with blanks {AS_TABLE}; give format='adjlist' if each line lists an agent's neighbours"
            raise Damaged(
                "'a b', 'a b weight' or 'a b {...}' a line", f"{' '.join(row)[:60]!r} on line {number}", remedy
            )
        links.append((number, row[:2]))
    _check_names(links)
    if konect:
        _konect_header(text, konect.group(1), links, found)
    if not (konect and konect.group(1) in ("asym", "directed")):
        found.graph.add_nodes_from(row[0] for _, row in links if len(row) == 1)
        found.graph.add_edges_from(row for _, row in links if len(row) == 2)
    return found


def _konect_header(text: str, kind: str, links: Rows, found: Found) -> None:
    """Use what KONECT's first two lines say: kind of network; numbers of links and of nodes."""
    if kind.startswith("bip"):
        found_ = "a bipartite network, whose two sides are numbered apart"
        raise Damaged(
            "one numbering of all agents", found_, "number the second side after the first, without the % lines"
        )
    if kind in ("asym", "directed"):
        found.graph.add_nodes_from(name for _, row in links for name in row)
        found.arcs((row[0], row[1]) for _, row in links if len(row) > 1)
    counts = re.match(r"%[^\n]*\n%\s*(\d+)\s+(\d+)\s+\d+\s*$", text, re.MULTILINE)
    if counts is None:
        return
    if int(counts[1]) != len(links):
        raise Damaged(f"{counts[1]} links, as the second line says", f"{len(links)}")
    if int(counts[2]) <= 10_000_000:
        found.graph.add_nodes_from(str(i + 1) for i in range(int(counts[2])))


def _without_heading(rows: Rows, found: Found) -> Rows:
    """The rows without a first one that names columns or counts agents (and links); Damaged where it may be either."""
    if len(rows) < 2:
        return rows
    (number, first), rest = rows[0], rows[1:]
    names = {name for _, row in rest for name in row[:2]}
    whole = all(map(INTEGER.fullmatch, names))
    lower = tuple(word.lower() for word in first[:2])
    where = f"{' '.join(first)!r} on line {number}"
    if lower in ENDS and not names & set(first[:2]):
        found.notes.append(f"line {number}, {' '.join(first)!r}, is read as the names of the columns")
        return rest
    if whole and len(first) > 1 and not any(map(INTEGER.fullmatch, first[:2])):
        raise Damaged("numbers of agents, as on all other lines", where, "put # before a line that names the columns")
    if not whole or not all(map(INTEGER.fullmatch, first)) or len(first) > 2:
        return rows
    counts = [int(word) for word in first]
    links = sum(len(row) > 1 for _, row in rest)
    remedy = "put # before a line of counts; move a link or an isolated agent to a later line"
    if len(first) == 1:
        if first[0] in names and counts[0] != len(names) or not links:
            return rows
        meant = "an isolated agent or the number of agents"
        certain = _numbered(names, counts[0])
    else:
        if counts[1] != links or counts[0] < len(names) or first[0] in names and counts[0] != len(names):
            return rows
        meant = "a link or the numbers of agents and links"
        certain = _numbered(names, counts[0]) and counts[1] >= counts[0]
    if not certain:
        raise Damaged("links", f"{where}, which may be {meant}", remedy)
    found.notes.append(f"line {number}, {' '.join(first)!r}, is read as {meant.split(' or ')[1]}")
    return rest


def _numbered(names: set[str], count: int) -> bool:
    """Whether the names are 0 ... count-1 or 1 ... count."""
    numbers = sorted(map(int, names))
    return len(numbers) == count and numbers in (list(range(count)), list(range(1, count + 1)))


def read_adjlist(text: str) -> Found:
    """An agent a line, then its neighbors: "a b c" or "a: b c"."""
    found = Found()
    rows = _rows(text, lambda row: True)
    colons = [row[0].endswith(":") for _, row in rows]
    if rows and all(colons):
        rows = [(number, [row[0][:-1], *row[1:]]) for number, row in rows]
    _refuse_counted(rows)
    _refuse_multiline(rows)
    _check_names(rows)
    simple: set[tuple[str, str]] = set()  # a link may be listed from both of its ends, so a repeat here is no news
    for _, (agent, *neighbours) in rows:
        found.graph.add_node(agent)
        simple.update((min(agent, other), max(agent, other)) for other in neighbours)
    found.graph.add_edges_from(sorted(simple))
    return found


def _refuse_counted(rows: Rows) -> None:
    """Refuse lists whose first line is a count and whose other lines do not start with their agent."""
    if len(rows) < 2 or not all(map(INTEGER.fullmatch, rows[0][1])):
        return
    (number, first), rest = rows[0], rows[1:]
    entries = sum(len(row) for _, row in rest)
    alone = len(first) == 1 and int(first[0]) == len(rest) and not any(first[0] in row for _, row in rest)
    metis = len(first) in (2, 3) and int(first[0]) == len(rest) and entries == 2 * int(first[1])
    if alone or metis:
        what = f"{' '.join(first)!r} on line {number}, which looks like a number of agents"
        remedy = "remove it and start every line with its agent" + (", or give format='metis'" if metis else "")
        raise Damaged("an agent and its neighbors in every line", what, remedy)


def _refuse_multiline(rows: Rows) -> None:
    """Refuse networkx's lists of several lines per agent, "a 2" and its two neighbors below, one a line."""
    heads, place = [], 0
    while place < len(rows):
        row = rows[place][1]
        if len(row) != 2 or not row[1].isdecimal():
            return
        heads.append(row[0])
        below = rows[place + 1 : place + 1 + int(row[1])]
        if len(below) < int(row[1]) or any(len(entry) > 1 for _, entry in below):
            return
        place += 1 + len(below)
    if len(rows) > len(heads) and {name for _, row in rows for name in row[:1]} == set(heads):
        found = "a number of neighbors behind every agent and these below, as networkx.write_multiline_adjlist writes"
        remedy = "convert it with networkx: write_graphml(read_multiline_adjlist(FILE), 'graph.graphml')"
        raise Damaged("an agent and its neighbors in every line", found, remedy)


def read_sif(text: str) -> Found:
    """Cytoscape's simple interactions: "a kind b c ..." links a to b and c; "a" alone is an isolated agent."""
    found = Found()
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    tabs = any("\t" in line for _, line in lines)
    for number, line in lines:
        row = [cell.strip() for cell in line.split("\t") if cell.strip()] if tabs else line.split()
        if len(row) == 2:
            raise Damaged("'a kind b' a line", f"{line[:60]!r} on line {number}")
        found.graph.add_node(row[0])
        found.graph.add_edges_from((row[0], other) for other in row[2:])
    return found


def read_lgl(text: str) -> Found:
    """LGL: "# a" names an agent, every further line a neighbor of it, with a weight or not."""
    found, agent = Found(), None
    for number, line in enumerate(text.splitlines(), start=1):
        row = line.replace("#", " ", 1).split()
        if not row:
            continue
        if line.lstrip().startswith("#"):
            agent = row[0]
            found.graph.add_node(agent)
        elif agent is None or len(row) > 2:
            raise Damaged("'# agent', then a neighbor a line", f"{line.strip()[:60]!r} on line {number}")
        else:
            found.graph.add_edge(agent, row[0])
    return found


def _rows(text: str, fits: Callable[[Sequence[str]], bool]) -> Rows:
    """Words of every line without comments and attributes, separated by blanks, or by TABs where names have blanks."""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith(("#", "%", "//")):
            if hashed := re.search(r"\s(#[^\s#]\S*)", stripped.partition("{")[0]):
                found = f"{stripped[:60]!r} on line {number}, which may be a link to {hashed[1]} or a comment"
                raise Damaged("agents without # at the start, and a blank after the # of a comment", found, AS_TABLE)
            bare = re.split(r"\s#", stripped, maxsplit=1)[0].rstrip() if "#" in stripped else stripped
            lines.append((number, bare.partition("{")[0].rstrip() if bare.endswith("}") else bare))
    blanks = [words(line) for _, line in lines]
    if any("\t" in line for _, line in lines):
        tabs = [[cell.strip().strip('"') for cell in line.split("\t") if cell.strip()] for _, line in lines]
        numbers = all(NUMBER.fullmatch(word) for row in blanks for word in row)
        if tabs != blanks and not numbers and all(map(fits, tabs)):
            if all(map(fits, blanks)):
                raise Damaged("one separator, blanks or TABs", "both, so that names may hold blanks or not", AS_TABLE)
            blanks = tabs
    return [(number, row) for (number, _), row in zip(lines, blanks, strict=True)]


def _check_names(rows: Rows) -> None:
    """Refuse words that are punctuation, gaps or other spellings rather than names."""
    check_written(name for _, row in rows for name in row)
    for name in {name for _, row in rows for name in row}:
        comma = not name.startswith("(") and ("," in name or ";" in name)
        if comma or name.endswith(":") or not any(map(str.isalnum, name)):
            number, row = next((number, row) for number, row in rows if name in row)
            found = f"{' '.join(row)[:60]!r} on line {number}"
            raise Damaged("agents separated by blanks", found, f"write 'a b' a line, or {AS_TABLE}")
