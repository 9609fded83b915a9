"""Drawing the pictures of something finished: in a style of our own, and so that no error of a picture ends more.

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
    """Draws pictures into a folder; `drawn`, `failed` and `remarks` say what became of them."""

    folder: Path
    drawn: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    def draw(self, name: str, plot: Callable[..., object], *arguments: object, **options: object) -> None:
        """Call plot(*arguments, path=folder/name, **options); an error is noted, and no half picture is left."""
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
            elif {"report", "matplotlib"} & {
                *Path(warning.filename).parts
            }:  # others were said before: of data and graph
                self.remarks[text] = None


@contextmanager
def pictures(folder: Path) -> Iterator[Pictures]:
    """Draw pictures into a folder with the `draw` of the value; whatever fails is one warning, not an error.

    Import what draws inside the block: an error there (no matplotlib, an unknown backend) is a warning, too.
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
    """matplotlib's defaults for the time of the block, whatever a matplotlibrc says; what was set before comes back."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in EASTERN if name in installed)]
        yield


def plain(text: object) -> str:
    """A name as matplotlib writes it unchanged: no formula between two $, one line, no halves of characters."""
    line = " ".join(str(text).split()).encode("utf-8", "replace").decode("utf-8")
    return line.replace("$", r"\$")


def _in_a_line(error: object) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserWarning):
        return text
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
