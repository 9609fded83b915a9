"""Paths as users write them, `~` and all, and the configs and studies that come with the package, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def user_path(given: str | Path, key: str) -> Path:
    """Return a path with its `~` or `~name` replaced by the home directory.

    key: its option, for the message. Raises ValueError, one line, without such a home.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:
        user = Path(given).parts[0]
        raise ValueError(
            f"{key}: expected a path, got {str(given)!r} and no home directory of {user}; correct the user, or write "
            f"the path out (./{user} for a file of that name)"
        ) from None


def folder() -> Path:
    """Return the folder of the bundled configs: inside the installed package, or beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def names(what: str = "config") -> list[str]:
    """Return the sorted names of the bundled configs, or with "study" of the bundled studies."""
    return sorted(path.stem for path in _place(what).glob("*.yaml"))


def located(given: str, what: str = "config") -> str:
    """Return the path of a config or study: a file of the user, else the bundled one of this name.

    given: a path, NAME, configs/NAME.yaml or studies/NAME. A file wins over a name; a folder of that name does not.
    Raises ValueError, one line with the nearest names, when there is neither.
    """
    path = user_path(given, what)
    name = given.removeprefix("configs/").removeprefix("studies/").removesuffix(".yaml")
    if path.exists() and not (path.is_dir() and name in names(what)):
        return str(path)
    if name in names(what):
        return str(_place(what) / f"{name}.yaml")
    near = difflib.get_close_matches(Path(name).name, names(what), 3, 0.6)
    other = "study" if what == "config" else "config"
    if name in names(other):
        command = "dist-hdnn study" if other == "study" else "dist-hdnn train"
        raise ValueError(f"{given}: expected a {what}, got the name of a {other}; give it to {command}")
    problem = next((each for each in ("swiss_roll", "double_circles", "double_moons") if name.endswith(f"_{each}")), "")
    if what == "config" and problem:  # the name of a config of version 0.1 of one architecture and one problem
        raise ValueError(
            f"{given}: no such config; it is one_agent with options now, such as --data.name={problem} "
            f"--network.architecture={name.removesuffix(f'_{problem}')}; the first lines of one_agent.yaml list them"
        )
    remedy = f"did you mean {' or '.join(near)}?" if near else f"examples lie in {_place(what)}"
    raise ValueError(f"{given}: no such {what} file, and no bundled {what} of that name; {remedy}")


def _place(what: str) -> Path:
    return folder() / "studies" if what == "study" else folder()
