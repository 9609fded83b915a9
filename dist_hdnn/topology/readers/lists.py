"""Lists of a link or an agent per line: edge lists (also of KONECT and NCOL), adjacency lists, SIF and LGL."""

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any

from dist_hdnn.topology.readers.content import INTEGER, NUMBER, Content, Damaged, check_names, lines, on_line, words

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


def read_edgelist(text: str) -> Content:
    """Read a link per line: "a b", "a b 1.5" or "a b {...}". "a" alone is an isolated agent."""
    content = Content()
    konect = KONECT.match(text)
    most = 4 if konect else 3  # KONECT: weight and time

    def fits(row: Sequence[str]) -> bool:
        return len(row) <= most and all(NUMBER.fullmatch(word) for word in row[2:])

    rows = _rows(text, fits)
    if not konect:
        rows = _without_heading(rows, content)
    links: Rows = []
    for number, row in rows:
        if not fits(row):
            where = on_line(" ".join(row), number)
            if any("," in word or ";" in word for word in row):
                raise Damaged("agents separated by blanks", where, AS_TABLE)
            remedy = f"for names with blanks {AS_TABLE}; give format='adjlist' if each line lists an agent's neighbors"
            raise Damaged("'a b', 'a b weight' or 'a b {...}' per line", where, remedy)
        links.append((number, row[:2]))
    _check_names(links)
    if konect:
        _konect_header(text, konect.group(1), links, content)
    if not (konect and konect.group(1) in ("asym", "directed")):
        content.graph.add_nodes_from(row[0] for _, row in links if len(row) == 1)
        content.graph.add_edges_from(row for _, row in links if len(row) == 2)
    if attributes := _attributes(text):
        content.records = [(row[0], row[1], True, attributes.get(n, {})) for n, row in links if len(row) == 2]
    return content


def _attributes(text: str) -> dict[int, dict[str, Any]]:
    """Return line number -> attributes, for lines "a b {...}" as networkx writes them."""
    attributes = {}
    for number, line in lines(text, "#", "%", "//") if "{" in text else ():
        brace = line.find("{")
        if brace > 0 and line.endswith("}"):
            try:
                value = ast.literal_eval(line[brace:])
            except (ValueError, SyntaxError):
                continue  # other than Python's, and not used
            attributes[number] = value if isinstance(value, dict) else {}
    return attributes


def _konect_header(text: str, kind: str, links: Rows, content: Content) -> None:
    """Use KONECT's first two lines: the kind of network, and the numbers of links and of nodes."""
    if kind.startswith("bip"):
        remedy = "number the second side after the first, without the % lines"
        raise Damaged("one numbering of all agents", "a bipartite network, whose sides are numbered apart", remedy)
    if kind in ("asym", "directed"):
        content.graph.add_nodes_from(name for _, row in links for name in row)
        content.arcs((row[0], row[1]) for _, row in links if len(row) > 1)
    counts = re.match(r"%[^\n]*\n%\s*(\d+)\s+(\d+)\s+\d+\s*$", text, re.MULTILINE)
    if counts is None:
        return
    if int(counts[1]) != len(links):
        raise Damaged(f"{counts[1]} links, as the second line says", f"{len(links)}")
    if int(counts[2]) <= 10_000_000:
        content.graph.add_nodes_from(str(i + 1) for i in range(int(counts[2])))


def _without_heading(rows: Rows, content: Content) -> Rows:
    """Return the rows without a first one that names columns or counts agents (and links), or refuse a doubtful one."""
    if len(rows) < 2:
        return rows
    (number, first), rest = rows[0], rows[1:]
    names = {name for _, row in rest for name in row[:2]}
    whole = all(map(INTEGER.fullmatch, names))
    lower = tuple(word.lower() for word in first[:2])
    where = f"{' '.join(first)!r} on line {number}"
    if lower in ENDS and not names & set(first[:2]):
        content.notes.append(f"line {number}, {' '.join(first)!r}, is read as the names of the columns")
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
    content.notes.append(f"line {number}, {' '.join(first)!r}, is read as {meant.split(' or ')[1]}")
    return rest


def _numbered(names: set[str], count: int) -> bool:
    """Return whether the names are 0 ... count-1 or 1 ... count."""
    numbers = sorted(map(int, names))
    return len(numbers) == count and numbers in (list(range(count)), list(range(1, count + 1)))


def read_adjlist(text: str) -> Content:
    """Read an agent per line, then its neighbors: "a b c" or "a: b c"."""
    content = Content()
    rows = _rows(text, lambda row: True)
    colons = [row[0].endswith(":") for _, row in rows]
    if rows and all(colons):
        rows = [(number, [row[0][:-1], *row[1:]]) for number, row in rows]
    _refuse_counted(rows)
    _refuse_multiline(rows)
    _check_names(rows)
    simple: set[tuple[str, str]] = set()  # a link may be listed from both of its ends, so a repeat here is no news
    for _, (agent, *neighbors) in rows:
        content.graph.add_node(agent)
        simple.update((min(agent, other), max(agent, other)) for other in neighbors)
    content.graph.add_edges_from(sorted(simple))
    return content


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
        neighbors = rows[place + 1 : place + 1 + int(row[1])]
        if len(neighbors) < int(row[1]) or any(len(entry) > 1 for _, entry in neighbors):
            return
        place += 1 + len(neighbors)
    if len(rows) > len(heads) and {name for _, row in rows for name in row[:1]} == set(heads):
        below = "a number of neighbors behind every agent and these below, as networkx.write_multiline_adjlist writes"
        remedy = "convert it with networkx: write_graphml(read_multiline_adjlist(FILE), 'graph.graphml')"
        raise Damaged("an agent and its neighbors in every line", below, remedy)


def read_sif(text: str) -> Content:
    """Read Cytoscape's simple interactions: "a kind b c ..." links a to b and c, "a" alone is an isolated agent."""
    content = Content()
    rows = lines(text)
    tabs = any("\t" in line for _, line in rows)
    for number, line in rows:
        row = [cell.strip() for cell in line.split("\t") if cell.strip()] if tabs else line.split()
        if len(row) == 2:
            raise Damaged("'a kind b' per line", on_line(line, number))
        content.graph.add_node(row[0])
        content.graph.add_edges_from((row[0], other) for other in row[2:])
    return content


def read_lgl(text: str) -> Content:
    """Read LGL: "# a" names an agent, every further line a neighbor of it, with a weight or not."""
    content, agent = Content(), None
    for number, line in lines(text):
        row = line.replace("#", " ", 1).split()
        if not row:
            continue
        if line.startswith("#"):
            agent = row[0]
            content.graph.add_node(agent)
        elif agent is None or len(row) > 2:
            raise Damaged("'# agent', then a neighbor per line", on_line(line, number))
        else:
            content.graph.add_edge(agent, row[0])
    return content


def _rows(text: str, fits: Callable[[Sequence[str]], bool]) -> Rows:
    """Return the words of every line without comments and attributes, cut at TABs where names have blanks."""
    bare = []
    for number, line in lines(text, "#", "%", "//"):
        if hashed := re.search(r"\s(#[^\s#]\S*)", line.partition("{")[0]):
            doubt = f"{on_line(line, number)}, which may be a link to {hashed[1]} or a comment"
            raise Damaged("agents without # at the start, and a blank after the # of a comment", doubt, AS_TABLE)
        line = re.split(r"\s#", line, maxsplit=1)[0].rstrip()
        bare.append((number, line.partition("{")[0].rstrip() if line.endswith("}") else line))
    blanks = [words(line) for _, line in bare]
    if any("\t" in line for _, line in bare):
        tabs = [[cell.strip().strip('"') for cell in line.split("\t") if cell.strip()] for _, line in bare]
        numbers = all(NUMBER.fullmatch(word) for row in blanks for word in row)
        if tabs != blanks and not numbers and all(map(fits, tabs)):
            if all(map(fits, blanks)):
                raise Damaged("one separator, blanks or TABs", "both, so that names may hold blanks or not", AS_TABLE)
            blanks = tabs
    return [(number, row) for (number, _), row in zip(bare, blanks, strict=True)]


def _check_names(rows: Rows) -> None:
    """Refuse words that are punctuation, gaps or other spellings rather than names."""
    check_names(name for _, row in rows for name in row)
    for name in {name for _, row in rows for name in row}:
        comma = not name.startswith("(") and ("," in name or ";" in name)
        if comma or name.endswith(":") or not any(map(str.isalnum, name)):
            number, row = next((number, row) for number, row in rows if name in row)
            where = on_line(" ".join(row), number)
            raise Damaged("agents separated by blanks", where, f"write 'a b' per line, or {AS_TABLE}")
