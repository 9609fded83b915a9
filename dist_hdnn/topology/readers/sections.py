"""Text in sections: Pajek, METIS, REPETITA, SNDlib's own format, BRITE, GDF and MATPOWER."""

import csv
import re
from collections.abc import Iterator

from dist_hdnn.topology.readers.found import NUMBER, Damaged, Directed, Found, whole, words

Line = tuple[int, str]


def read_pajek(text: str) -> Found:
    """Pajek: numbered vertices with labels and places; edges, or arcs that are listed both ways."""
    found, arcs, section, agents = Found(), [], "", 0
    matrix_row = 0
    for number, line in _lines(text, "%"):
        row = words(line)
        where = f"on line {number}"
        if line.startswith("*"):
            section = row[0][1:].lower()
            if section == "vertices" and agents:
                raise Damaged("one network", f"another *Vertices {where}", "keep one network in the file")
            if section == "vertices":
                agents = whole(row[1] if len(row) > 1 else "", "the number of vertices", where)
                _bounded(agents, where)
            elif section == "network":
                found.graph.graph["name"] = " ".join(row[1:])
            elif section not in ("edges", "arcs", "edgeslist", "arcslist", "matrix"):
                raise Damaged("sections of one network", f"{row[0]!r} {where}", "remove this section")
        elif section == "vertices":
            place = dict(zip("xy", row[2:4], strict=False))
            whole(row[0], "the number of a vertex", where)
            found.agent(row[0], row[1] if len(row) > 1 else None, place)
        elif section in ("edges", "arcs"):
            pair = row[0], row[1] if len(row) > 1 else ""
            arcs += [pair, pair[::-1]] if section == "edges" and pair[0] != pair[1] else [pair]
        elif section in ("edgeslist", "arcslist"):
            pairs = [(row[0], other) for other in row[1:]]
            arcs += pairs + ([pair[::-1] for pair in pairs if pair[0] != pair[1]] if section == "edgeslist" else [])
        elif section == "matrix":
            matrix_row += 1
            arcs += [(str(matrix_row), str(j)) for j, cell in enumerate(row, start=1) if float(cell)]
        else:
            raise Damaged("*Vertices first", f"{line[:40]!r} {where}")
    for i in range(agents):
        if str(i + 1) not in found.graph:
            found.agent(str(i + 1))
    if len(found.graph) > agents:
        raise Damaged(f"vertices 1 to {agents}", f"{len(found.graph) - agents} others", "correct *Vertices")
    found.arcs(arcs)
    return found


def read_metis(text: str) -> Found:
    """METIS: "n m [format [weights]]", then the neighbors of agent i on line i, 1 being the first agent."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not line.startswith("%")]
    while lines and not lines[0][1].strip():
        lines.pop(0)
    head = lines[0][1].split() if lines else []
    if not 2 <= len(head) <= 4:
        raise Damaged("numbers of agents and links on the first line", repr(" ".join(head)[:40]))
    agents, links = (whole(word, "a count", "on the first line") for word in head[:2])
    _bounded(agents, "on the first line")
    code = (head[2] if len(head) > 2 else "0").zfill(3)
    constraints = int(head[3]) if len(head) > 3 else int(code[1])
    rows = lines[1:]
    while len(rows) > agents and not rows[-1][1].strip():
        rows.pop()
    if len(rows) != agents:
        raise Damaged(f"{agents} lines of neighbors, as the first line says", f"{len(rows)}")
    found, arcs = Found(), []
    for i in range(agents):
        found.agent(str(i + 1))
    for i, (_, line) in enumerate(rows, start=1):
        entries = line.split()[int(code[0]) + constraints * int(code[1]) :]
        arcs += [(str(i), other) for other in entries[:: 1 + int(code[2])]]
    found.arcs(arcs)
    if found.graph.number_of_edges() != links:
        raise Damaged(f"{links} links, as the first line says", f"{found.graph.number_of_edges()}")
    return found


def read_repetita(text: str) -> Found:
    """REPETITA: NODES n and rows "label x y", EDGES m and rows "label source target ...", listed both ways."""
    lines = list(_lines(text, "#"))
    found, arcs = Found(), []
    for kind in ("NODES", "EDGES"):
        start = next((i for i, (_, line) in enumerate(lines) if line.split()[0].upper() == kind), None)
        if start is None or len(lines[start][1].split()) != 2:
            raise Damaged(f"a line '{kind} <number>'", "none", "add it")
        count = whole(lines[start][1].split()[1], f"the number of {kind.lower()}", f"on line {lines[start][0]}")
        rows = [line.split() for _, line in lines[start + 2 : start + 2 + count]]
        if len(rows) < count or any(len(row) < 3 for row in rows):
            raise Damaged(f"{count} {kind.lower()} with three words or more", f"{len(rows)} lines")
        rest = lines[start + 2 + count : start + 3 + count]
        if rest and rest[0][1].split()[0].upper() != "EDGES":
            raise Damaged(
                f"{count} {kind.lower()}", f"another on line {rest[0][0]}", f"correct the number after {kind}"
            )
        for i, row in enumerate(rows):
            if kind == "NODES":
                found.agent(str(i), row[0], {"x": row[1], "y": row[2]})
            else:
                arcs.append((row[1], row[2]))
    found.arcs(arcs)
    return found


def read_sndlib_native(text: str) -> Found:
    """SNDlib's own text: NODES ( name ( x y ) ... ), LINKS ( name ( source target ) ... )."""
    bare = re.sub(r"^\s*[?#].*$", "", text, flags=re.MULTILINE)
    sections = dict(re.findall(r"^\s*(NODES|LINKS)\s*\(\s*?$(.*?)^\s*\)\s*$", bare, re.MULTILINE | re.DOTALL))
    if set(sections) != {"NODES", "LINKS"}:
        raise Damaged("the sections NODES ( ... ) and LINKS ( ... )", ", ".join(sections) or "neither")
    found = Found()
    for row in sections["NODES"].strip().splitlines():
        match = re.match(r"\s*([^\s(]+)\s*(?:\(\s*(\S+)\s+([^\s)]+)\s*\))?\s*$", row)
        if match is None:
            raise Damaged("'name ( x y )' for every node", repr(row.strip()[:60]))
        found.agent(match[1], None, {"x": match[2], "y": match[3]})
    for row in sections["LINKS"].strip().splitlines():
        match = re.match(r"\s*([^\s(]+)\s*\(\s*(\S+)\s+([^\s)]+)\s*\)", row)
        if match is None and row.strip():
            raise Damaged("'name ( source target ) ...' for every link", repr(row.strip()[:60]))
        if match is not None:
            found.link(match[2], match[3])
    return found


def read_brite(text: str) -> Found:
    """BRITE: rows "id x y ..." after Nodes:, rows "id from to ..." after Edges:."""
    found, section = Found(), ""
    for number, line in _lines(text, "#"):
        row = line.split()
        if line.startswith(("Nodes:", "Edges:")):
            section = row[0]
        elif section and len(row) < 3:
            raise Damaged("three numbers or more", f"{line[:40]!r} on line {number}")
        elif section == "Nodes:":
            found.agent(row[0], None, {"x": row[1], "y": row[2]})
        elif section == "Edges:":
            if row[-1] == "D":
                raise Directed(f"a directed link on line {number}")
            found.link(row[1], row[2])
    return found


def read_gdf(text: str) -> Found:
    """GDF: tables of nodes and edges, whose first lines name the columns."""
    found, columns, section = Found(), [""], ""
    for number, line in _lines(text, "#"):
        cells = [cell.strip() for cell in next(csv.reader([line], quotechar="'" if "'" in line else '"'))]
        if (head := line.lower()).startswith(("nodedef>", "edgedef>")):
            section = head[:4]
            columns = [cell.split()[0].lower() for cell in line[8:].split(",")]
            continue
        if len(cells) != len(columns):
            raise Damaged(f"{len(columns)} columns", f"{line[:60]!r} on line {number}")
        row = dict(zip(columns, cells, strict=True))
        if section == "node":
            found.agent(row["name"], row.get("label"), dict(row))
        elif row.get("directed", "").lower() == "true":
            raise Directed(f"a directed link on line {number}")
        else:
            found.link(row["node1"], row["node2"])
    return found


def read_matpower(text: str) -> Found:
    """MATPOWER: buses are agents; branches and DC lines in service are links."""
    bare = re.sub(r"%.*", "", text)
    found = Found(next(iter(re.findall(r"^\s*function\s+\w+\s*=\s*(\w+)", bare, re.MULTILINE)), ""))
    buses = [_bus(row[0]) for row in _matlab(bare, "bus")]
    named = re.search(r"mpc\.bus_name\s*=\s*\{(.*?)\}", text, re.DOTALL)
    names = re.findall(r"'([^']*)'", named[1]) if named else []
    for i, bus in enumerate(buses):
        found.agent(bus, names[i] if len(names) == len(buses) else None)
    out = 0
    for table, status in (("branch", 10), ("dcline", 2)):
        for row in _matlab(bare, table) if table == "branch" or "mpc.dcline" in bare else []:
            if len(row) > status and float(row[status]) == 0:
                out += 1
            else:
                found.link(_bus(row[0]), _bus(row[1]))
    if out:
        found.notes.append(f"left out {out} branches that are out of service")
    return found


def _matlab(text: str, name: str) -> list[list[str]]:
    """The rows of mpc.<name> = [ ... ]."""
    match = re.search(rf"mpc\.{name}\s*=\s*\[(.*?)\]", text, re.DOTALL)
    if match is None:
        raise Damaged(f"a table mpc.{name} = [ ... ];", "none", "save the case as a version 2 .m file")
    rows = [row.replace(",", " ").split() for row in re.split(r"[;\n]", match[1].replace("...\n", " ")) if row.strip()]
    for row in rows:
        if len(row) < 2 or not all(map(NUMBER.fullmatch, row[:2])):
            raise Damaged(f"numbers in mpc.{name}", repr(" ".join(row)[:60]))
    return rows


def _bus(word: str) -> str:
    return str(int(float(word)))


def _bounded(agents: int, where: str) -> None:
    if not 0 <= agents <= 10_000_000:
        raise Damaged("at most 10 million agents", f"{agents} {where}")


def _lines(text: str, comment: str) -> Iterator[Line]:
    """(line number, line) without blank lines and comments."""
    for number, line in enumerate(text.splitlines(), start=1):
        if (stripped := line.strip()) and not stripped.startswith(comment):
            yield number, stripped
