"""What all plots share: colors, sizes, how numbers are written, and how a figure is finished and saved."""

import base64
import datetime as dt
import io
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from simlib.labels import SMALL

__all__ = [
    "AT_ONCE",
    "BLUE",
    "COLORS",
    "DASHES",
    "DPI",
    "INK",
    "LARGE",
    "MARKS",
    "MINUTE",
    "NORMAL",
    "ORANGE",
    "PALE",
    "WIDTH",
    "Floats",
    "as_days",
    "as_number",
    "as_percent",
    "as_span",
    "clock_axis",
    "img",
    "legible",
    "note",
    "plain_frame",
    "save",
    "settled",
    "with_japanese",
    "write_instead",
    "write_key",
    "write_title",
]

Floats = np.typing.NDArray[np.float64]
WIDTH = 8.0  # inches
DPI = 150
NORMAL, LARGE = 10.0, 12.0  # points
INK, PALE = "#222222", "#8a8a8a"
# Colors of Okabe and Ito's palette, which the color-blind can tell apart; as greys these are dark, light and black.
BLUE, ORANGE = "#0072B2", "#E69F00"
MINUTE = dt.timedelta(minutes=1)
AT_ONCE = 1.0  # seconds: where the logarithmic axis of delays begins
MARKS = {
    10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 6 * 3600: "6 h", 86400: "1 day", 7 * 86400: "1 week",
}  # fmt: skip
COLORS = (INK, BLUE, "#D55E00", "#009E73", "#A6428A", ORANGE, PALE, "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.2)), (0, (7, 2, 1.5, 2)), (0, (3.5, 1.2)))  # 5 and 8: 40 pairs


class Shown(Figure):
    """A figure that a notebook shows by itself; matplotlib's own waits for pyplot to be imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        save(self, buffer)
        return buffer.getvalue()


def save(figure: Figure, path: str | PathLike[str] | IO[bytes]) -> None:
    """Write a figure as PNG, at 150 dots per inch; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        What a function of this module returned.
    path : path or binary file
        Where to.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> save(Figure(), file)
    >>> file.getvalue()[1:4]
    b'PNG'
    """
    # the only metadata that matplotlib adds by itself is its version
    figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})


def img(figure: Figure, alt: str, width: str = "100%") -> str:
    """Return a figure as a part of an HTML page that loads nothing.

    Parameters
    ----------
    figure : Figure
        What a function of this module returned.
    alt : str
        What it shows, for those who can't see it.
    width : str, optional
        How wide it is at most, as CSS has it: ``"40em"``.

    Returns
    -------
    str
        An ``<img>``.

    Examples
    --------
    >>> img(Figure(), "nothing")[:40]
    '<img alt="nothing" style="max-width:100%'
    """
    buffer = io.BytesIO()
    save(figure, buffer)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(alt)}" style="max-width:{width}" src="data:image/png;base64,{data}">'


def with_japanese(figure: Figure) -> Figure:
    """Give a figure's text a second font, for the letters that the first one lacks; return the figure.

    The font comes with `matplotlib-fontja`, which isn't imported: it would change the caller's settings.

    Parameters
    ----------
    figure : Figure
        What a function of this module returned.

    Returns
    -------
    Figure
        The same one.

    Examples
    --------
    >>> figure = Figure()
    >>> text = figure.text(0, 0, "受理された通数")
    >>> with_japanese(figure).texts[0].get_fontfamily()
    ['DejaVu Sans', 'IPAexGothic']
    """
    from importlib.util import find_spec

    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    package = find_spec("matplotlib_fontja")
    assert package is not None
    assert package.origin is not None
    path = next(Path(package.origin).parent.rglob("*.ttf"))
    name = FontProperties(fname=str(path)).get_name()
    if name not in fontManager.get_font_names():
        fontManager.addfont(str(path))
    for text in figure.findobj(Text):
        if isinstance(text, Text) and not text.get_text().isascii():
            text.set(fontfamily=["DejaVu Sans", name], fontweight="normal")  # the font has one weight
    return figure


def write_title(figure: Figure, title: str) -> None:
    """Write a title above a figure, in as few lines as it takes.

    Parameters
    ----------
    figure : Figure
        The figure.
    title : str
        The title; empty: none.
    """
    if title:
        wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in title)
        lines = -(-(len(title) + wide) // 76)  # of what fits
        least = max(60 if not wide else 0, -(-len(title) // lines))  # the first line long, unless any letter ends one
        widths = range(least, max(least, len(title)) + 1)
        text = next(wrapped for width in widths if len(wrapped := textwrap.wrap(title, width)) <= lines)
        figure.suptitle("\n".join(text), x=0.012, ha="left", fontsize=LARGE, fontweight="bold", color=INK)


def settled(figure: Figure) -> Figure:
    """Lay a figure out for good: labels stay where they were placed, and it is the same file each time it is saved.

    Parameters
    ----------
    figure : Figure
        The figure, drawn.

    Returns
    -------
    Figure
        The same one.
    """
    for _ in range(2):  # the second time with the sizes that the first has found
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def note(figure: Figure, text: str) -> None:
    """Write a note below a figure that is laid out: it gets taller by that, and nothing in it moves.

    Parameters
    ----------
    figure : Figure
        What a function of this module returned.
    text : str
        The note; empty: none.

    Examples
    --------
    >>> figure = Figure(figsize=(8, 4))
    >>> note(figure, "Assumed: google-mx/quota.")
    >>> bool(figure.get_figheight() > 4), figure.texts[0].get_text()
    (True, 'Assumed: google-mx/quota.')
    """
    if not text:
        return
    lines = textwrap.wrap(text, 100, break_on_hyphens=False)
    width, before = figure.get_size_inches()
    height = before + 0.17 * len(lines) + 0.1  # inches: a line of small letters, and a gap
    figure.set_size_inches(width, height)
    for axes in figure.axes:
        box = axes.get_position()
        axes.set_position((box.x0, 1 - (1 - box.y0) * before / height, box.width, box.height * before / height))
    if figure.get_suptitle():
        title = next(one for one in figure.texts if one.get_text() == figure.get_suptitle())
        title.set_y(1 - (1 - title.get_position()[1]) * before / height)
    figure.text(0.012, 0.06 / height, "\n".join(lines), va="bottom", fontsize=SMALL, color=INK)


def plain_frame(axes: Axes, grid: str = "y") -> None:
    """Leave of the frame what helps to read.

    Parameters
    ----------
    axes : Axes
        Where.
    grid : str, optional
        Lines across from which axis: ``x``, ``y`` or, if empty, none.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=NORMAL, color=PALE, labelcolor=INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis="x" if grid == "x" else "y", color="#e4e4e4", linewidth=0.8)


def write_key(axes: Axes, handles: Sequence[Any], above: float) -> None:
    """Write what the signs mean in one line so many points above the axes.

    Parameters
    ----------
    axes : Axes
        Where.
    handles : sequence of artists
        A sign each, with its label.
    above : float
        How far above, in points.
    """
    at = offset_copy(axes.transAxes, fig=axes.get_figure(root=True), y=above, units="points")
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=at, borderaxespad=0, borderpad=0,
        ncols=5, frameon=False, fontsize=SMALL, handlelength=1.6, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip


def clock_axis(axes: Axes, shown: tuple[dt.datetime, dt.datetime], note: str = "") -> None:
    """Set the horizontal axis: the local time, with its date and zone in the label.

    Parameters
    ----------
    axes : Axes
        Where.
    shown : (datetime, datetime)
        From when until when.
    note : str, optional
        What the label says besides.
    """
    first, end = shown
    axes.set_xlim(*as_days([first, end]))
    locator = AutoDateLocator(tz=first.tzinfo, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    final = end - MINUTE
    several = first.date() != final.date()
    pattern = "%H:%M\n%m-%d" if several else "%H:%M"
    axes.xaxis.set_major_formatter(DateFormatter(pattern, tz=first.tzinfo))  # type: ignore[no-untyped-call]
    zone = f" (UTC{first:%z})" if first.tzinfo is not None else ""
    zone = re.sub(r"(\d\d)(\d\d)\)", r"\1:\2)", zone)
    days = f"{first:%Y-%m-%d} to {final:%Y-%m-%d}" if several else f"{first:%Y-%m-%d}"
    axes.set_xlabel(f"local time{zone}, {days}{note}", fontsize=NORMAL, color=INK)


def as_days(moments: Any) -> Floats:
    """Return moments as matplotlib counts them: days since 1970.

    Parameters
    ----------
    moments : sequence of datetime
        The moments.

    Returns
    -------
    ndarray
        The days, shape ``(len(moments),)``.
    """
    return np.asarray(date2num(moments), dtype=np.float64)  # type: ignore[no-untyped-call]


def legible(color: str) -> str:
    """Darken a color that is too light for text.

    Parameters
    ----------
    color : str
        One of `COLORS`.

    Returns
    -------
    str
        A color that can be read on white.
    """
    return {ORANGE: "#8a5f00", PALE: "#666666", "#56B4E9": "#1f6f9f"}.get(color, color)


def write_instead(axes: Axes, text: str) -> None:
    """Write why there is nothing to see.

    Parameters
    ----------
    axes : Axes
        Where.
    text : str
        The reason.
    """
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=LARGE, color=PALE)


def as_number(value: float, signed: bool = False) -> str:
    """Write a number with the digits that matter.

    Parameters
    ----------
    value : float
        The number.
    signed : bool, optional
        Whether a plus is written, too.

    Returns
    -------
    str
        The number, with a real minus sign.

    Examples
    --------
    >>> as_number(1234.5), as_number(12.34), as_number(-0.01234, signed=True)
    ('1,234', '12.3', '−0.012')
    """
    sign = "+" if signed and value > 0 else ""
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.1f}" if size >= 1 else f"{value:.2g}"
    return f"{sign}{text}".replace("-", "\N{MINUS SIGN}")


def as_percent(share: float) -> str:
    """Write a share in percent, never as 0 or 100 if it is neither.

    Parameters
    ----------
    share : float
        The share; 1 is everything.

    Returns
    -------
    str
        With its percent sign.

    Examples
    --------
    >>> as_percent(0.25), as_percent(0.0004), as_percent(1.0)
    ('25 %', 'under 0.1 %', '100 %')
    """
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if percent < 0.1 or percent > 99.9:
        return "under 0.1 %" if percent < 50 else "over 99.9 %"
    digits = 1 if percent < 10 or percent > 90 else 0
    return f"{percent:.{digits}f}".removesuffix(".0") + " %"


def as_span(seconds: float) -> str:
    """Write how long something takes.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        In seconds, minutes or hours.

    Examples
    --------
    >>> as_span(20.0), as_span(95.0), as_span(5400.0)
    ('20 s', '1.6 min', '1.5 h')
    """
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{as_number(seconds / length)} {unit}"
    return f"{as_number(seconds)} s"
