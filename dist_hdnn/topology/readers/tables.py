"""Tables: a link per row (.csv, .tsv), and adjacency matrices as text, arrays, Matrix Market, graph6 and sparse6."""

import csv
import io
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dist_hdnn.topology.readers.content import GAPS, NUMBER, Content, Damaged, Directed, check_names
from dist_hdnn.topology.readers.lists import ENDS

YES = ("directed", "true", "yes", "1")


def read_csv(text: str) -> Content:
    """Read a link per row, in two columns that the first line names. A row of a source alone is an isolated agent."""
    rows = _cells(text)
    names = [name.lower() for name in rows[0][1]] if rows else []
    _check_gaps_of_matrix(rows)
    ends = next((ends for ends in ENDS if set(ends) <= set(names)), None)
    if ends is None:
        first = repr(",".join(rows[0][1] if rows else [])[:60])
        remedy = "add it (for an adjacency matrix, give as many rows as columns)"
        raise Damaged("a first line that names the columns source and target", first, remedy)
    twice = next((end for end in ends if names.count(end) > 1), None)
    if twice is not None:
        raise Damaged(f"one column {twice}", f"{names.count(twice)}", "rename the others")
    source, target = (names.index(end) for end in ends)
    content = Content()
    for number, row in rows[1:]:
        cells = row[: len(names)] if not any(row[len(names) :]) else row
        if not any(cells):
            continue
        shown = f"{','.join(row)[:60]!r} in row {number}"
        if len(cells) != len(names) or not cells[source]:
            raise Damaged(f"a source and {len(names)} columns in every row", shown)
        for column in ("type", "directed"):
            if column in names and cells[names.index(column)].lower() in YES:
                raise Directed(f"a directed link in row {number}")
        content.graph.add_node(cells[source])
        if cells[target]:
            content.graph.add_node(cells[target])
            content.link(cells[source], cells[target], dict(zip(rows[0][1], cells, strict=True)))
        elif any(cell for i, cell in enumerate(cells) if i != source):
            remedy = "fill it in; a row of a source alone is an isolated agent"
            raise Damaged("a target", shown, remedy)
    check_names(map(str, content.graph))
    return content


def _check_gaps_of_matrix(rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a square of numbers with gaps by its gaps: no table of links is one."""
    try:
        _, body = _parts([row for _, row in rows])
    except Damaged:
        return
    cells = [cell for row in body for cell in row]
    gaps = [cell for cell in cells if not cell or cell in GAPS]
    if len(body) > 1 and gaps and all(NUMBER.fullmatch(cell) for cell in cells if cell and cell not in GAPS):
        raise Damaged("a number in every cell of a matrix", f"{len(gaps)} gaps", "write 0 where there is no link")


def read_matrix(data: bytes) -> Content:
    """Read an adjacency matrix. Names stand in the first row, column, both or not at all."""
    if data.startswith(b"\x93NUMPY"):
        return _of_array(np.load(io.BytesIO(data), allow_pickle=False))
    if data.startswith(b"PK"):
        return _of_array(sparse.load_npz(io.BytesIO(data)))
    names, body = _parts([row for _, row in _cells(data.decode())])
    for i, row in enumerate(body, start=1):
        for j, cell in enumerate(row, start=1):
            if not NUMBER.fullmatch(cell):
                raise Damaged("a number in every cell", f"{cell[:20]!r} in row {i}, column {j} of the matrix")
    return _of_array(np.array(body, dtype=np.float64), names)


def looks_like_matrix(text: str, as_links: bool) -> bool:
    """Return whether a text is a square of numbers, with names or not. as_links: it may be links with weights."""
    first, lines = text.lstrip().partition("\n")[0], text.count("\n")
    if not (lines - 3 <= max(map(first.count, ",;\t|")) <= lines + 1 or lines - 3 <= len(first.split()) <= lines + 2):
        return False  # not nearly as many cells as rows
    try:
        names, body = _parts([row for _, row in _cells(text)])
    except (Damaged, csv.Error):
        return False
    if len(body) < (3 if names is None else 2) or not all(NUMBER.fullmatch(cell) for row in body for cell in row):
        return False
    values = np.array(body, dtype=np.float64)
    if np.isin(values, (0, 1)).all() or (as_links and len(body) > 3):
        return True
    return not np.diag(values).any() and np.array_equal(values, values.T)


def read_mtx(data: bytes) -> Content:
    """Read Matrix Market."""
    from scipy.io import mmread  # takes time to import, and few files need it

    matrix = mmread(io.BytesIO(data + b"\n"))  # scipy 1.17 reads past the end of a last line "3 2#" without its newline
    return _of_array(matrix, [str(i + 1) for i in range(matrix.shape[0])])


def read_compact(data: bytes) -> Content:
    """Read graph6 or sparse6: a graph in one line of printable characters, agents numbered from 0."""
    lines = data.strip().removeprefix(b">>graph6<<").removeprefix(b">>sparse6<<").split()
    if len(lines) != 1:
        raise Damaged("one graph", f"{len(lines)} lines, a graph each", "keep the line of one graph")
    graph = (nx.from_sparse6_bytes if lines[0].startswith(b":") else nx.from_graph6_bytes)(lines[0])
    content = Content()
    content.graph.add_nodes_from(map(str, graph))
    content.graph.add_edges_from((str(one), str(other)) for one, other in graph.edges())
    return content


def _of_array(array: Any, names: list[str] | None = None) -> Content:
    """Return the content of a square matrix, dense or sparse: entries other than 0 are links."""
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        remedy = "give a row and a column for each agent; list other links in a .csv"
        raise Damaged("a square adjacency matrix", f"the shape {array.shape}", remedy)
    matrix: Any = sparse.coo_array(array)
    if matrix.dtype.kind not in "biufc" or not np.isfinite(matrix.data).all():
        raise Damaged(
            "finite numbers", f"NaN, infinity or {matrix.dtype} among the entries", "write 0 where there is no link"
        )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    agents = matrix.shape[0]
    names = [str(i) for i in range(agents)] if names is None else names
    rows, columns = matrix.row.astype(np.int64), matrix.col.astype(np.int64)
    there, back = rows * agents + columns, columns * agents + rows  # one number per entry and per mirrored entry
    one_way: NDArray[np.int64] = np.setdiff1d(there, back)
    if len(one_way):
        i, j = divmod(int(one_way[0]), agents)
        raise Directed(f"an entry at ({names[i]}, {names[j]}) and none at ({names[j]}, {names[i]})")
    content = Content()
    for name in names:
        if not name:
            raise Damaged("a name for every agent", "an empty one", "fill it in")
        content.agent(name)
    upper = rows <= columns  # each link once, self-loops included
    content.graph.add_edges_from((names[i], names[j]) for i, j in zip(rows[upper], columns[upper], strict=True))
    return content


def _parts(rows: list[list[str]]) -> tuple[list[str] | None, list[list[str]]]:
    """Return the names of the agents, in the first row, the first column or both, and the square of cells."""
    count, widths = len(rows), sorted({len(row) for row in rows[1:]})
    first = rows[0] if rows else []
    width = widths[0] if len(widths) == 1 else len(first) if count == 1 else -1
    corner = bool(first) and len(first) == width and NUMBER.fullmatch(first[0]) is None
    if width == count and (corner or len(first) == count - 1):
        across, down = first[-(count - 1) :], [row[0] for row in rows[1:]]
        if sorted(across) != sorted(down) or len(set(down)) < len(down):
            raise Damaged("the same names across and down", f"{across[:3]} and {down[:3]}", "give both alike")
        return down, [[row[1 + across.index(name)] for name in down] for row in rows[1:]]
    if width == count == len(first):
        return None, rows
    if width == len(first) == count - 1 and len(set(first)) == len(first):
        return first, rows[1:]
    if width == len(first) == count + 1 and not any(NUMBER.fullmatch(row[0]) for row in rows):
        return [row[0] for row in rows], [row[1:] for row in rows]
    shape = f"{count} rows of {' or '.join(map(str, widths[:3] or [len(first)]))} cells"
    raise Damaged("as many rows as columns", shape, "give a row and a column for each agent")


def _cells(text: str) -> list[tuple[int, list[str]]]:
    """Return (row number, cells) of every row that is not blank, by the commonest separator of the first one."""
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(("#", "%"))), 0)
    first = lines[start] if lines else ""
    delimiter = max(",;\t|", key=first.strip().count)
    if delimiter not in first.strip():
        return [(number, line.split()) for number, line in enumerate(lines[start:], start + 1) if line.strip()]
    read = csv.reader(io.StringIO("".join(lines[start:]), newline=""), delimiter=delimiter, strict=True)
    rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(read, start + 1)]
    return [(number, row) for number, row in rows if any(row)]
