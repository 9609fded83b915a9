"""Drawing of pictures in a style of our own, where an error costs one picture and nothing else.

matplotlib is imported late, because its import alone fails in some environments (an unknown MPLBACKEND).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MISSING_GLYPH = re.compile(r"Glyph .* missing from (?:current )?font", re.DOTALL)
# fonts of common systems with Chinese, Japanese and Korean characters, which matplotlib's own font lacks
EASTERN = (
    *(f"Noto Sans CJK {region}" for region in ("JP", "SC", "TC", "KR")),
    *("Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Droid Sans Fallback", "IPAexGothic", "IPAGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "MS Gothic", "SimHei", "Malgun Gothic", "Arial Unicode MS"),
)


@dataclass
class Pictures:
    """Pictures of a folder: the files drawn, the errors by name, and matplotlib's remarks."""

    folder: Path
    drawn: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    def draw(self, name: str, plot: Callable[..., object], *arguments: object, **options: object) -> None:
        """Call plot(*arguments, path=folder/name, **options). Note an error and leave no half picture."""
        path = self.folder / name
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            try:
                with own_style():
                    plot(*arguments, path=path, **options)
                self.drawn += [path] if path.is_file() else []
            except Exception as error:
                self.failed[name] = _in_a_line(error)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        for warning in said:
            text = _in_a_line(warning.message)
            if MISSING_GLYPH.search(text):
                self.remarks["no installed font has some characters of the names, which are drawn as boxes"] = None
            elif {"plots", "matplotlib"} & {*Path(warning.filename).with_suffix("").parts}:
                self.remarks[text] = None  # data and graph have given their warnings before


@contextmanager
def pictures(folder: Path) -> Iterator[Pictures]:
    """Draw pictures into a folder with `draw` of the value, and turn every failure into one warning.

    Import plotting modules inside the block, so that an error there (no matplotlib, an unknown backend) is a warning.
    """
    album = Pictures(folder)
    try:
        yield album
    except Exception as error:
        warnings.warn(f"pictures: some or all are missing in {folder}: {_in_a_line(error)}", UserWarning, stacklevel=3)
    if album.failed:
        names, reasons = ", ".join(album.failed), "; ".join(dict.fromkeys(album.failed.values()))
        warnings.warn(f"pictures: not drawn in {folder}: {names}: {reasons}", UserWarning, stacklevel=3)
    for remark in album.remarks:
        warnings.warn(f"pictures in {folder}: {remark}", UserWarning, stacklevel=3)


@contextmanager
def own_style() -> Iterator[None]:
    """Use matplotlib's defaults within the block, whatever a matplotlibrc says, and restore the settings after it."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in EASTERN if name in installed)]
        yield


def plain(text: object) -> str:
    """Escape a name so that matplotlib writes it unchanged, in one line: no formula between two $, no surrogates."""
    line = " ".join(str(text).split()).encode("utf-8", "replace").decode("utf-8")
    return line.replace("$", r"\$")


def _in_a_line(error: object) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserWarning):
        return text
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
