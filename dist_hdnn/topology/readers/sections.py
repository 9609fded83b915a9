"""Text in sections: Pajek, METIS, REPETITA, SNDlib's own format, BRITE, GDF and MATPOWER."""

import csv
import re

from dist_hdnn.topology.readers.content import NUMBER, Content, Damaged, Directed, lines, on_line, whole, words


def read_pajek(text: str) -> Content:
    """Read Pajek: numbered vertices with labels and places, and edges, or arcs that are listed both ways."""
    content, arcs, section, agents = Content(), [], "", 0
    matrix_row = 0
    for number, line in lines(text, "%"):
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
                content.graph.graph["name"] = " ".join(row[1:])
            elif section not in ("edges", "arcs", "edgeslist", "arcslist", "matrix"):
                raise Damaged("sections of one network", f"{row[0]!r} {where}", "remove this section")
        elif section == "vertices":
            place = dict(zip("xy", row[2:4], strict=False))
            whole(row[0], "the number of a vertex", where)
            content.agent(row[0], row[1] if len(row) > 1 else None, place)
        elif section in ("edges", "arcs", "edgeslist", "arcslist"):
            for other in row[1:] if section.endswith("list") else [row[1] if len(row) > 1 else ""]:
                arcs.append((row[0], other))
                if section.startswith("edges") and other != row[0]:
                    arcs.append((other, row[0]))
        elif section == "matrix":
            matrix_row += 1
            arcs += [(str(matrix_row), str(j)) for j, cell in enumerate(row, start=1) if float(cell)]
        else:
            raise Damaged("*Vertices first", on_line(line, number))
    for i in range(agents):
        if str(i + 1) not in content.graph:
            content.agent(str(i + 1))
    if len(content.graph) > agents:
        raise Damaged(f"vertices 1 to {agents}", f"{len(content.graph) - agents} others", "correct *Vertices")
    content.arcs(arcs)
    return content


def read_metis(text: str) -> Content:
    """Read METIS: "n m [format [weights]]", then the neighbors of agent i on line i, 1 being the first agent."""
    rows = [line for line in text.splitlines() if not line.startswith("%")]
    while rows and not rows[0].strip():
        rows.pop(0)
    head = rows.pop(0).split() if rows else []
    if not 2 <= len(head) <= 4:
        raise Damaged("numbers of agents and links on the first line", repr(" ".join(head)[:40]))
    agents, links = (whole(word, "a count", "on the first line") for word in head[:2])
    _bounded(agents, "on the first line")
    code = (head[2] if len(head) > 2 else "0").zfill(3)
    constraints = int(head[3]) if len(head) > 3 else int(code[1])
    while len(rows) > agents and not rows[-1].strip():
        rows.pop()
    if len(rows) != agents:
        raise Damaged(f"{agents} lines of neighbors, as the first line says", f"{len(rows)}")
    content, arcs = Content(), []
    for i in range(agents):
        content.agent(str(i + 1))
    for i, line in enumerate(rows, start=1):
        entries = line.split()[int(code[0]) + constraints * int(code[1]) :]
        arcs += [(str(i), other) for other in entries[:: 1 + int(code[2])]]
    content.arcs(arcs)
    if content.graph.number_of_edges() != links:
        raise Damaged(f"{links} links, as the first line says", f"{content.graph.number_of_edges()}")
    return content


def read_repetita(text: str) -> Content:
    """Read REPETITA: NODES n and rows "label x y", EDGES m and rows "label source target ...", listed both ways."""
    listed = lines(text, "#")
    content, arcs = Content(), []
    for kind in ("NODES", "EDGES"):
        start = next((i for i, (_, line) in enumerate(listed) if line.split()[0].upper() == kind), None)
        if start is None or len(listed[start][1].split()) != 2:
            raise Damaged(f"a line '{kind} <number>'", "none", "add it")
        number, head = listed[start]
        count = whole(head.split()[1], f"the number of {kind.lower()}", f"on line {number}")
        rows = [line.split() for _, line in listed[start + 2 : start + 2 + count]]  # below the names of the columns
        if len(rows) < count or any(len(row) < 3 for row in rows):
            raise Damaged(f"{count} {kind.lower()} with three words or more", f"{len(rows)} lines")
        rest = listed[start + 2 + count : start + 3 + count]
        if rest and rest[0][1].split()[0].upper() != "EDGES":
            raise Damaged(
                f"{count} {kind.lower()}", f"another on line {rest[0][0]}", f"correct the number after {kind}"
            )
        for i, row in enumerate(rows):
            if kind == "NODES":
                content.agent(str(i), row[0], {"x": row[1], "y": row[2]})
            else:
                arcs.append((row[1], row[2]))
                texts = zip(("bw", "delay"), row[4:6], ("kbit/s", "us"), strict=False)  # label source target weight
                content.records.append((row[1], row[2], False, {name: f"{text} {unit}" for name, text, unit in texts}))
    content.arcs(arcs)
    return content


def read_sndlib_native(text: str) -> Content:
    """Read SNDlib's own text: NODES ( name ( x y ) ... ), LINKS ( name ( source target ) capacity ... )."""
    bare = re.sub(r"^\s*[?#].*$", "", text, flags=re.MULTILINE)
    sections = dict(re.findall(r"^\s*(NODES|LINKS)\s*\(\s*?$(.*?)^\s*\)\s*$", bare, re.MULTILINE | re.DOTALL))
    if set(sections) != {"NODES", "LINKS"}:
        raise Damaged("the sections NODES ( ... ) and LINKS ( ... )", ", ".join(sections) or "neither")
    content = Content()
    axes = ("Longitude", "Latitude") if "<longitude>" in text else ("x", "y")
    if unit := re.search(r"^\s*unit\s*=\s*([KMGT]?)BITPERSEC\s*$", bare, re.MULTILINE):
        content.facts["pre_installed_capacity_unit"] = f"{unit[1]}bit/s"
    for row in sections["NODES"].strip().splitlines():
        match = re.match(r"\s*([^\s(]+)\s*(?:\(\s*(\S+)\s+([^\s)]+)\s*\))?\s*$", row)
        if match is None:
            raise Damaged("'name ( x y )' for every node", repr(row.strip()[:60]))
        content.agent(match[1], None, dict(zip(axes, match.group(2, 3), strict=True)))
    for row in sections["LINKS"].strip().splitlines():
        match = re.match(r"\s*([^\s(]+)\s*\(\s*(\S+)\s+([^\s)]+)\s*\)\s*([^\s()]*)", row)
        if match is None and row.strip():
            raise Damaged("'name ( source target ) ...' for every link", repr(row.strip()[:60]))
        if match is not None:
            content.link(match[2], match[3], {"pre_installed_capacity": match[4]})
    return content


def read_brite(text: str) -> Content:
    """Read BRITE: rows "id x y ..." after Nodes:, rows "id from to ..." after Edges:."""
    content, section = Content(), ""
    for number, line in lines(text, "#"):
        row = line.split()
        if line.startswith(("Nodes:", "Edges:")):
            section = row[0]
        elif section and len(row) < 3:
            raise Damaged("three numbers or more", on_line(line, number))
        elif section == "Nodes:":
            content.agent(row[0], None, {"x": row[1], "y": row[2]})
        elif section == "Edges:":
            if row[-1] == "D":
                raise Directed(f"a directed link on line {number}")
            content.link(row[1], row[2], dict(zip(("length", "delay", "capacity"), row[3:6], strict=False)))
    return content


def read_gdf(text: str) -> Content:
    """Read GDF: tables of nodes and edges, whose first lines name the columns."""
    content, columns, section = Content(), [""], ""
    for number, line in lines(text, "#"):
        cells = [cell.strip() for cell in next(csv.reader([line], quotechar="'" if "'" in line else '"'))]
        if (head := line.lower()).startswith(("nodedef>", "edgedef>")):
            section = head[:4]
            columns = [cell.split()[0].lower() for cell in line[8:].split(",")]
            continue
        if len(cells) != len(columns):
            raise Damaged(f"{len(columns)} columns", on_line(line, number))
        row = dict(zip(columns, cells, strict=True))
        if section == "node":
            content.agent(row["name"], row.get("label"), dict(row))
        elif row.get("directed", "").lower() == "true":
            raise Directed(f"a directed link on line {number}")
        else:
            content.link(row["node1"], row["node2"], row)
    return content


def read_matpower(text: str) -> Content:
    """Read MATPOWER: buses are agents, and branches and DC lines in service are links."""
    bare = re.sub(r"%.*", "", text)
    content = Content(next(iter(re.findall(r"^\s*function\s+\w+\s*=\s*(\w+)", bare, re.MULTILINE)), ""))
    buses = [_bus(row[0]) for row in _matlab(bare, "bus")]
    named = re.search(r"mpc\.bus_name\s*=\s*\{(.*?)\}", text, re.DOTALL)
    names = re.findall(r"'([^']*)'", named[1]) if named else []
    for i, bus in enumerate(buses):
        content.agent(bus, names[i] if len(names) == len(buses) else None)
    out = 0
    for table, status in (("branch", 10), ("dcline", 2)):
        for row in _matlab(bare, table) if table == "branch" or "mpc.dcline" in bare else []:
            if len(row) > status and float(row[status]) == 0:
                out += 1
            else:
                content.link(_bus(row[0]), _bus(row[1]))
    if out:
        content.notes.append(f"left out {out} branches that are out of service")
    return content


def _matlab(text: str, name: str) -> list[list[str]]:
    """Return the rows of mpc.<name> = [ ... ]."""
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
