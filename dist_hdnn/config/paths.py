"""Paths as users write them, `~` and all."""

from __future__ import annotations

from pathlib import Path


def user_path(given: str | Path, key: str) -> Path:
    """The path that a user gave, its `~` or `~name` replaced by the home directory.

    key: where it was given, starts the message. ValueError, one line, where there is no such home.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:
        user = Path(given).parts[0]
        raise ValueError(
            f"{key}: expected a path, got {str(given)!r} and no home directory of {user}; correct the user, or write "
            f"the path out (./{user} for a file of that name)"
        ) from None
