"""Common to all plots: figures without global state, a palette for every eye, axes, writing to disk.

Figures are built on `Figure` and `FigureCanvasAgg`. pyplot, which keeps figures and a backend per process, is not used.
"""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DOTS_PER_INCH = 150

# Okabe and Ito, "Color Universal Design" (2008)
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#8C8C8C", "#D9D9D9"

# Ten classes that color deficiencies leave distinct: M. Petroff, arXiv:2107.02270
CLASS_COLORS = (
    *("#3F90DA", "#FFA90E", "#BD1F01", "#94A4A2", "#832DB6"),
    *("#A96B59", "#E76300", "#B9AC70", "#717581", "#92DADD"),
)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of width x height inches, laid out so that nothing overlaps or is cut off."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quiet(axes: Axes, grid: bool = True) -> None:
    """Drop the frame's upper and right line and draw thin grid lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelsize=9)
    if grid:
        axes.grid(True, which="major", color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)


def whole_numbers(*counts: Axis) -> None:
    """Put ticks of these axes at whole numbers only."""
    for axis in counts:
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG at 150 dots per inch, making its folder if needed, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()  # the layout of a legend outside the axes settles in the second pass only
    with rc_context({"agg.path.chunksize": 20_000}):  # long paths overflow Agg's cell block otherwise
        figure.savefig(path, dpi=DOTS_PER_INCH, format="png", facecolor="white")
    return path
