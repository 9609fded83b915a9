"""The rules of the house, read from the source: one way of imports, and who may use what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dist_hdnn"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDER = (
    # the heart, in the order of the mathematics
    {"topology", "data"},
    {"links"},
    {"transport"},
    {"operators"},
    {"dynamics"},
    {"sweep"},
    {"network"},
    {"ends"},
    {"training"},
    {"analysis"},
    # around it: options, the run directory, worker processes
    {"printing", "streams"},
    {"config"},
    {"plots", "run"},
    {"launching"},
    {"command_line", "doctor"},
    # from options to objects, and what is done with them
    {"build"},
    {"exporting", "inspection", "study"},
    {"experiment", "__init__"},
    {"commands"},
    {"cli"},
    {"__main__"},
)


PLACES = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES}


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def package_of(file: Path) -> str:
    """The first folder of a file, or its own name for a module beside the packages."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def line_of(package: str) -> int:
    return next(number for number, group in enumerate(ORDER) if package in group)


def imports(file: Path) -> Iterator[str]:
    """Full names of what a file imports, also inside functions and for type checking."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_imports_only_from_lines_above_its_own(file: Path) -> None:
    own = package_of(file)
    for name in imports(file):
        parts = name.split(".")
        if parts[0] != "dist_hdnn" or len(parts) < 2 or parts[1] == "__version__":
            continue
        used = parts[1] if parts[1] in PLACES else "__init__"  # a name that the package exports
        allowed = used == own or line_of(used) < line_of(own)
        assert allowed, f"{name_of(file)} imports {name}: {used} is not above {own}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_library_is_used_only_where_it_belongs(file: Path) -> None:
    used = {name.split(".")[0] for name in imports(file)}
    own = package_of(file)
    assert own == "topology" or "networkx" not in used, "only topology/ knows networkx"
    assert own in ("transport", "doctor") or "mpi4py" not in used, "only transport/ knows MPI"
    assert not used & {"pickle", "shelve", "marshal", "dill"}, "nothing is read from or written to pickles"
    if own in ("config", "cli", "commands", "command_line", "printing", "__main__"):
        assert not used & {"torch", "numpy", "scipy"}, "the command line must answer before torch is imported"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_environment_is_read_only_where_it_says_who_a_worker_is_or_where_files_go(file: Path) -> None:
    if package_of(file) in ("launching", "transport") or name_of(file) == "operators/tiles/cache.py":
        return
    source = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        assert name not in ("environ", "getenv", "environb", "putenv"), f"{name_of(file)} reads the environment"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_says_what_it_is_for(file: Path) -> None:
    assert file.stem != "utils"
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), f"{name_of(file)} has no docstring"


@pytest.mark.parametrize("folder", ["dist_hdnn", "docs", "launch", "examples", "benchmarks", "docker"])
def test_nobody_is_sent_to_a_package_index_for_this_package(folder: str) -> None:
    """It is on none; what works is `pip install -e ".[mpi]"` in a checkout."""
    files = [file for kind in ("py", "md", "sh", "yaml") for file in (PACKAGE.parent / folder).rglob(f"*.{kind}")]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    assert texts
    assert not [file for file, text in texts.items() if re.search(r"dist_hdnn\[|install ['\"]?dist[_-]hdnn", text)]


def test_every_folder_and_every_root_module_has_its_one_place_in_the_order() -> None:
    ordered = [name for group in ORDER for name in group]
    assert len(ordered) == len(set(ordered))
    assert set(ordered) == PLACES


def test_the_names_that_the_package_promises_exist() -> None:
    import dist_hdnn

    for name in dist_hdnn.__all__:
        assert getattr(dist_hdnn, name) is not None
    with pytest.raises(AttributeError):
        _ = dist_hdnn.no_such_name  # type: ignore[attr-defined]
