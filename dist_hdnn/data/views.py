"""Views: the features that each agent with a learned lift sees, a patch of an image or columns of a table.

Agent i sees x[:, columns[starts[i]:starts[i + 1]]]. Feature number `features`, one beyond the last, is the padding at
the border of an image. The lift reads it as 0, the mean of standardized pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dist_hdnn.data.checks import Image, Integers, some


@dataclass(frozen=True, eq=False)
class Views:
    """The features that each agent sees: agent i those of columns[starts[i]:starts[i + 1]].

    patch: height, width and channels of each view where it is a patch of an image, row by row.
    """

    features: int
    starts: Integers
    columns: Integers
    patch: Image | None = None

    @property
    def sizes(self) -> Integers:
        """Number of features that each agent sees, (agents,)."""
        return np.diff(self.starts)

    @property
    def agents(self) -> Integers:
        """The agent of each entry of `columns`."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def patches(image: Image, rows: int, columns: int) -> Views:
    """Return views of a grid of agents over an image: agent r * columns + c sees the patch in row r, column c.

    Sides that do not divide are padded behind the last row and column of pixels, and a warning says so.
    ValueError for more agents than pixels along a side.
    """
    height, width, channels = image
    if rows < 1 or columns < 1 or rows > height or columns > width:
        raise ValueError(
            f"lift: more agents than pixels: expected a grid of at most {height} x {width} agents for images of "
            f"{height} x {width} pixels, got {rows} x {columns}; choose fewer agents, or set lift.rows and lift.columns"
        )
    high, wide = math.ceil(height / rows), math.ceil(width / columns)
    if (rows * high, columns * wide) != (height, width):
        warnings.warn(
            f"lift: images of {height} x {width} pixels are padded to {rows * high} x {columns * wide} for {rows} x "
            f"{columns} patches of {high} x {wide}",
            UserWarning,
            stacklevel=2,
        )
    features = height * width * channels
    padded = np.full((rows * high, columns * wide, channels), features, dtype=np.int64)
    padded[:height, :width] = np.arange(features).reshape(image)
    # (rows, columns, high, wide, channels): one patch after the other, each row by row
    grid = padded.reshape(rows, high, columns, wide, channels).transpose(0, 2, 1, 3, 4)
    agents, size = rows * columns, high * wide * channels
    return Views(features, size * np.arange(agents + 1), grid.reshape(-1), (high, wide, channels))


def shape_of_grid(agents: int, image: Image) -> tuple[int, int]:
    """Return rows and columns of a grid of one patch per agent, as square as the number and the image allow."""
    shapes = [(rows, agents // rows) for rows in range(1, agents + 1) if agents % rows == 0]
    fitting = [shape for shape in shapes if shape[0] <= image[0] and shape[1] <= image[1]] or shapes
    return min(fitting, key=lambda shape: (abs(shape[0] - shape[1]), shape[0]))


def column_views(names: Sequence[str], owners: Mapping[str, int], agents: int) -> Views:
    """Return views of a table in which agent owners[name] sees the column `name`.

    ValueError for a column that the data lack, and for one that no agent sees.
    """
    unknown = [name for name in owners if name not in names]
    if unknown:
        raise ValueError(
            f"data.features: expected columns of the data ({some(names)}), got {unknown[0]!r}; correct its name"
        )
    missing = [name for name in names if name not in owners]
    if missing:
        raise ValueError(
            f"data.features: expected an agent for every column, got none for {some(missing)}; add "
            f"{missing[0]}: <agent>, or name the column in data.ignore"
        )
    agent = np.array([owners[name] for name in names], dtype=np.int64)
    order = np.argsort(agent, kind="stable")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(agent, minlength=agents))])
    return Views(len(names), starts, order)


def columns_named_like(columns: Sequence[str], agents: Sequence[str]) -> dict[str, int] | None:
    """Return column -> agent of the same name where all columns are named like agents, None where none is.

    ValueError where only some are, because the others would have to be guessed.
    """
    numbers = {name: number for number, name in enumerate(agents)}
    strangers = [name for name in columns if name not in numbers]
    if len(strangers) == len(columns):
        return None
    if strangers:
        namesakes = [name for name in columns if name in numbers]
        raise ValueError(
            f"data.features: expected all columns named like agents, or none, got {some(namesakes)} named like agents "
            f"and {some(strangers)} not; say in data.features which agent sees which column, or name "
            f"{strangers[0]!r} in data.ignore, or in data.targets if an agent answers it"
        )
    return {name: numbers[name] for name in columns}


def even_views(features: int, agents: int) -> Views:
    """Return views of neighboring features by neighboring agents, as even as possible, empty for some agents."""
    starts = np.arange(agents + 1, dtype=np.int64) * features // agents
    return Views(features, starts, np.arange(features, dtype=np.int64))
