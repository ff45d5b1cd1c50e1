"""The plots: what happened when, how long it took, and how sure that is.

Every function takes plain tables, returns a `Figure` and writes nothing; `save` writes one. What color tells is told
again by a marker, a hatch or a dash pattern and by a label at the thing itself, so every plot works in black and white.
Nothing here touches pyplot or matplotlib's settings: the caller's font and backend stay as they are.
"""

import datetime as dt
import io
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy

from simlib.labels import GAP, HALO, SMALL, Label, write_labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "comparison",
    "delay_ecdf",
    "dependence",
    "finishing",
    "forest",
    "goodput",
    "progress",
    "residuals",
    "save",
    "timeline",
    "timelines",
    "with_japanese",
]

Floats = np.typing.NDArray[np.float64]
Bools = np.typing.NDArray[np.bool_]

WIDTH = 8.0  # inches
DPI = 150
NORMAL, LARGE = 10.0, 12.0  # points
INK, PALE = "#222222", "#8a8a8a"

# Colors of Okabe and Ito's palette, which the color-blind can tell apart; as greys these are dark, light and black.
BLUE, ORANGE = "#0072B2", "#E69F00"


class _Figure(Figure):
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


# What happened when


class _Series(NamedTuple):
    """How one column of a timeline is drawn."""

    column: str
    label: str
    color: str
    marker: str
    filled: bool


SERIES = (
    _Series("accepted", "accepted", BLUE, "o", filled=True),
    _Series("held", "accepted after a hold", ORANGE, "s", filled=True),
    _Series("deferred", "deferred", "#6b6b6b", "v", filled=True),
    _Series("refused", "refused", INK, "x", filled=False),
)
MINUTE = dt.timedelta(minutes=1)
COUNTED = [series.column for series in SERIES]
THROTTLED = ["held", "deferred", "refused"]
BURST = 20.0  # a minute so many times the median one makes a linear axis useless
SHADES = ListedColormap([f"{level:.3f}" for level in np.linspace(0.95, 0.85, 64)])


def timeline(
    table: "pd.DataFrame", title: str, limit: str = "", between: tuple[dt.datetime, dt.datetime] | None = None
) -> Figure:
    """Draw what happened in each minute of a run, with the time shaded in which a limit was holding replies.

    Parameters
    ----------
    table : DataFrame
        What `Result.timeline` returns. Index: the minute's beginning. Columns: ``accepted``, ``held``, ``deferred`` and
        ``refused``, in attempts per minute, and ``holding``, the share of the minute in which some reply was held.
    title : str
        What is to be seen.
    limit : str, optional
        The id of the limit that binds; it is named where it holds or refuses.
    between : tuple of datetime, optional
        From when to when. By default from the first to the last minute in which anything was held, deferred or
        refused; if nothing was, the middle 99 % of what was sent.

    Returns
    -------
    Figure
        With one Axes. Its scale is logarithmic if the largest minute dwarfs the rest.

    Examples
    --------
    >>> import pandas as pd
    >>> minutes = pd.date_range("2026-12-01T10:00", periods=2, freq="min", tz="Asia/Tokyo")
    >>> counts = {"accepted": [30, 0], "held": [0, 30], "deferred": 0, "refused": 0, "holding": [1.0, 0.0]}
    >>> table = pd.DataFrame(counts, index=minutes)
    >>> timeline(table, "30 of 60 wait a minute", "office365/messages-per-minute").axes[0].get_xlabel()
    'local time (UTC+09:00), 2026-12-01'
    """
    figure = _Figure(figsize=(WIDTH, 4.0), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes)
    if not _busy(table).any():
        _say(axes, "nothing was sent")
        return _settled(figure)
    shown = _between([table], between)
    part = _cut(table, shown)
    log = _dwarfed([part])
    _scale(axes, [part], log, headroom=True)
    axes.set_ylabel("attempts per minute" + (", log scale" if log else ""), fontsize=NORMAL, color=INK)
    everything, inside = (int(one[COUNTED].to_numpy().sum()) for one in (table, part))
    outside = f" ({everything - inside:,} of {everything:,} attempts lie outside)" if inside < everything else ""
    _clock_axis(axes, shown, outside)
    _minutes(axes, part)
    holding = bool((part["holding"] > 0).any())
    labels, obstacles = [], []
    for series in SERIES:
        points = _points(part, series)
        if not len(points):
            continue
        text = f"{series.label}: at most {points[:, 1].max():,.0f} a minute"
        if series.column in ("refused", "deferred") and limit and not holding:
            text = f"{text}\nby {limit}"
        labels.append(Label(text, _legible(series.color), _heights(points)))
        obstacles += [points, points, points]  # a label may rather cross a stem than hide a marker
    top = part[COUNTED].to_numpy(dtype=float).max(axis=1)
    for share in np.linspace(0.05, 0.95, 15):
        obstacles.append(np.column_stack([_days(part), (1 + top) ** share - 1 if log else top * share]))
    _settled(figure)
    if holding:
        _name_shade(axes, part, limit)
    write_labels(axes, labels, obstacles)
    return figure


def _points(table: "pd.DataFrame", series: _Series) -> Floats:
    """Return when and how many, for the minutes that have any."""
    values = table[series.column].to_numpy(dtype=float)
    points: Floats = np.column_stack([_days(table), values])[values > 0]
    return points


def _heights(points: Floats) -> Floats:
    """Order the places for a series' label: the middle of its highest minutes first, then lower ones."""
    highest = np.flatnonzero(points[:, 1] == points[:, 1].max())
    distance = abs(np.arange(len(points)) - highest[len(highest) // 2])
    return points[np.lexsort([distance, -points[:, 1]])][:60]


def timelines(
    tables: "Mapping[str, pd.DataFrame]",
    title: str,
    limits: Mapping[str, str] | None = None,
    between: tuple[dt.datetime, dt.datetime] | None = None,
) -> Figure:
    """Draw the timelines of several alternatives above each other, on the same axes.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        For each alternative what `timeline` takes.
    title : str
        What is to be seen.
    limits : mapping of str to str, optional
        For each alternative, the id of the limit that binds it.
    between : tuple of datetime, optional
        From when to when; by default the middle 95 % of what was held, deferred or refused in all of them.

    Returns
    -------
    Figure
        With one Axes for each alternative.

    Examples
    --------
    >>> import pandas as pd
    >>> minutes = pd.date_range("2026-12-01T10:00", periods=2, freq="min", tz="Asia/Tokyo")
    >>> counts = {"accepted": [1, 0], "held": [0, 1], "deferred": 0, "refused": 0, "holding": 0.0}
    >>> held = pd.DataFrame(counts, index=minutes)
    >>> figure = timelines({"Office 365": held, "Gmail": held}, "One waits")
    >>> [axes.get_title(loc="right") for axes in figure.axes]
    ['1 held', '1 held']
    """
    figure = _Figure(figsize=(WIDTH, 1.3 + 1.15 * max(len(tables), 1)), dpi=DPI, layout="constrained")
    _title(figure, title)
    if not any(_busy(table).any() for table in tables.values()):
        axes = figure.subplots()
        _plain(axes)
        _say(axes, "nothing was sent")
        return _settled(figure)
    shown = _between(list(tables.values()), between, share=0.95)
    parts = {name: _cut(table, shown) for name, table in tables.items()}
    everything, inside = (
        sum(int(one[THROTTLED].to_numpy().sum()) for one in some) for some in (tables.values(), parts.values())
    )
    outside = (
        f"\n{everything - inside:,} of {everything:,} throttled attempts lie outside" if inside < everything else ""
    )
    log = _dwarfed(list(parts.values()))
    rows = figure.subplots(len(tables), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, part) in zip(rows, parts.items(), strict=False):
        _plain(axes)
        _scale(axes, list(parts.values()), log, headroom=False)
        _clock_axis(axes, shown, outside)
        axes.label_outer()
        _minutes(axes, part)
        axes.set_title(name, loc="left", fontsize=NORMAL, fontweight="bold", color=INK, pad=3)
        axes.set_title(
            _outcome(tables[name], (limits or {}).get(name, "")), loc="right", fontsize=SMALL, color=INK, pad=3
        )
    handles: list[Line2D | Patch] = [_handle(series) for series in SERIES]
    handles.append(Patch(facecolor=SHADES(1.0), label="a limit holds replies"))
    _key(rows[0], handles, above=20)
    figure.supylabel("attempts per minute" + (", log scale" if log else ""), fontsize=NORMAL, color=INK)
    return _settled(figure)


def _outcome(table: "pd.DataFrame", limit: str) -> str:
    """Say what was held, deferred and refused."""
    counts = {name: int(table[name].sum()) for name in THROTTLED}
    text = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return (f"{text} by {limit}" if limit else text) if text else "nothing throttled"


def _handle(series: _Series) -> Line2D:
    return Line2D([], [], color=series.color, marker=series.marker, linestyle="", markersize=4.5, label=series.label)


def _busy(table: "pd.DataFrame") -> Bools:
    """Whether anything happened in a minute."""
    busy: Bools = (table[[*COUNTED, "holding"]].to_numpy(dtype=float) > 0).any(axis=1)
    return busy


def _between(
    tables: "Sequence[pd.DataFrame]", asked: tuple[dt.datetime, dt.datetime] | None, share: float = 1.0
) -> tuple[dt.datetime, dt.datetime]:
    """From when to when something happens that is worth a look, with a margin."""
    if asked:
        return asked
    throttled = [table[THROTTLED].sum(axis=1) + (table["holding"] > 0) for table in tables]
    throttled = [minutes for minutes in throttled if minutes.any()]
    if throttled:
        together = throttled[0]
        for minutes in throttled[1:]:
            together = together.add(minutes, fill_value=0.0)
        first, last = _core(together, share)
    else:
        spans = [_core(table[COUNTED].sum(axis=1), 0.99) for table in tables if _busy(table).any()]
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    end = last + MINUTE
    if end - first < 5 * MINUTE:
        return first - 2 * MINUTE, end + 2 * MINUTE  # else a single minute would fill the plot
    margin = max(2 * MINUTE, (end - first) / 20)
    earliest, latest = min(t.index[0] for t in tables if len(t)), max(t.index[-1] for t in tables if len(t)) + MINUTE
    return max(first - margin, earliest), min(end + margin, latest)


def _core(counts: "pd.Series", share: float) -> tuple[dt.datetime, dt.datetime]:
    """Find the minutes of the middle of what was counted, so large a share of it."""
    so_far = counts.to_numpy(dtype=float).cumsum()
    outside = (1 - share) / 2
    # from 0 the first minute that has any: what is sought lies just above
    first = np.searchsorted(so_far, outside * so_far[-1], side="right")
    last = np.searchsorted(so_far, (1 - outside) * so_far[-1])
    return counts.index[first], counts.index[last]


def _cut(table: "pd.DataFrame", shown: tuple[dt.datetime, dt.datetime]) -> "pd.DataFrame":
    if not len(table):
        return table
    return table[(table.index >= shown[0]) & (table.index < shown[1])]


def _days(table: "pd.DataFrame") -> Floats:
    """Return the middle of each minute, as matplotlib counts days."""
    index = table.index
    if getattr(index, "tz", None) is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    return _day(index.to_numpy(dtype="datetime64[ns]")) + 0.5 / 1440


def _day(moments: Any) -> Floats:
    return np.asarray(date2num(moments), dtype=np.float64)  # type: ignore[no-untyped-call]


def _dwarfed(tables: "Sequence[pd.DataFrame]") -> bool:
    values = np.concatenate([table[COUNTED].to_numpy(dtype=float).ravel() for table in tables] or [[]])
    values = values[values > 0]
    return bool(len(values) and values.max() > BURST * np.median(values))


def _scale(axes: Axes, tables: "Sequence[pd.DataFrame]", log: bool, headroom: bool) -> None:
    """Set the vertical axis so that it holds all tables."""
    most = max((float(table[s.column].max()) for table in tables if len(table) for s in SERIES), default=0.0)
    most = max(most, 1.0)
    if log:
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
        decades = int(np.ceil(np.log10(most) + 1e-9))
        fine = [n * 10**k for k in range(decades + 1) for n in (1, 3)] if headroom else [10**k for k in (1, 3, 5, 7)]
        axes.set_yticks([0, *(tick for tick in fine if tick <= most * 1.5)])
        axes.set_ylim(0, most * (6.0 if headroom else 2.0))
    else:
        axes.set_ylim(0, most * (1.35 if headroom else 1.15))
        axes.yaxis.set_major_locator(MaxNLocator(6 if headroom else 3, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.minorticks_off()


def _clock_axis(axes: Axes, shown: tuple[dt.datetime, dt.datetime], note: str = "") -> None:
    """Set the horizontal axis: the local time, with its date and zone in the label."""
    first, end = shown
    axes.set_xlim(*_day([first, end]))
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


def _minutes(axes: Axes, table: "pd.DataFrame") -> None:
    """Draw the shade, a stem for each minute, and on it a marker for each series that has any."""
    if not len(table):
        return
    days = _days(table)
    holding = table["holding"].to_numpy(dtype=float)
    limits = axes.get_xlim(), axes.get_ylim()
    if (holding > 0).any():
        edges = np.append(days, days[-1] + 1 / 1440) - 0.5 / 1440
        shade = np.ma.masked_less_equal(holding, 0.0)[np.newaxis]
        axes.pcolormesh(
            edges, [0, 1], shade, cmap=SHADES, vmin=0, vmax=1, transform=axes.get_xaxis_transform(), zorder=0.5
        )
    size = float(np.clip(600 / len(days), 2.8, 5.0))
    top = table[COUNTED].to_numpy(dtype=float).max(axis=1)
    axes.vlines(days[top > 0], 0, top[top > 0], color="#a8a8a8", linewidth=0.22 * size, zorder=2)
    for series in SERIES:
        points = _points(table, series)
        if not len(points):
            continue  # even an empty line takes part in the layout
        axes.plot(
            points[:, 0], points[:, 1], linestyle="", marker=series.marker, color=series.color, markersize=size,
            markeredgecolor=_legible(series.color), markeredgewidth=0.5 if series.filled else 0.9,
            label=series.label, zorder=3, clip_on=False,
        )  # fmt: skip
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _name_shade(axes: Axes, table: "pd.DataFrame", limit: str) -> None:
    """Say in the longest shaded stretch what the shade means."""
    holding = table["holding"].to_numpy(dtype=float) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holding, [False]])))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    days = _days(table)
    middle = (days[begins[longest]] + days[ends[longest] - 1]) / 2
    text = axes.text(
        middle, 0.975, f"shaded: {limit or 'a limit'} holds replies", transform=axes.get_xaxis_transform(),
        ha="center", va="top", fontsize=SMALL, color=INK, path_effects=HALO,
    )  # fmt: skip
    box, frame = text.get_window_extent(), axes.get_window_extent()
    shift = max(frame.x0 + 6 - box.x0, 0.0) + min(frame.x1 - 6 - box.x1, 0.0)
    moved = axes.transData.transform((middle, 0))[0] + shift
    text.set_x(axes.transData.inverted().transform((moved, 0))[0])


# How long it took


AT_ONCE = 1.0  # seconds: where the logarithmic axis of delays begins
MARKS = {
    10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 6 * 3600: "6 h", 86400: "1 day", 7 * 86400: "1 week",
}  # fmt: skip
COLORS = (INK, BLUE, "#D55E00", "#009E73", "#A6428A", ORANGE, PALE, "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.2)), (0, (7, 2, 1.5, 2)), (0, (3.5, 1.2)))  # 5 and 8: 40 pairs


def delay_ecdf(delays: "Mapping[str, np.typing.ArrayLike]", title: str) -> Figure:
    """Draw for each alternative which share of the offered messages is accepted within how long.

    Parameters
    ----------
    delays : mapping of str to array
        For each alternative the time from creation to acceptance of each offered message, in seconds; infinite for
        messages that were never accepted.
    title : str
        What is to be seen.

    Returns
    -------
    Figure
        With one Axes. A curve begins at the left edge with what is accepted at once and ends with the last message
        accepted: at a dot if all were; short of 100 %, at a cross, if some never were. Identical curves are drawn
        once, under all their names.

    Raises
    ------
    ValueError
        If a delay is negative or nan.

    Examples
    --------
    >>> delays = {"held": [0.0, 60.0], "refused": [0.0, float("inf")]}
    >>> [text.get_text() for text in delay_ecdf(delays, "Half of it late or lost").axes[0].texts]
    ['refused: 50 % never accepted', 'held']
    """
    figure = _Figure(figsize=(WIDTH, 4.8), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes)
    curves = _curves(delays)
    last = max((float(x[-1]) for x, _, _ in curves.values() if len(x)), default=60.0)
    axes.set_xscale("log")
    axes.set_xlim(AT_ONCE * 0.9, max(last, 60.0) * 1.5)
    axes.set_ylim(0, 1.04)
    ticks = [tick for tick in MARKS if tick <= max(last, 60.0) * 1.5]
    axes.set_xticks([AT_ONCE, *ticks], [f"at once\n(up to {AT_ONCE:.0f} s)", *(MARKS[tick] for tick in ticks)])
    axes.minorticks_off()
    axes.set_xlabel("time from creation to acceptance, log scale", fontsize=NORMAL, color=INK)
    axes.set_ylabel("offered messages accepted", fontsize=NORMAL, color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_yticks(np.linspace(0, 1, 6).tolist())
    if not curves:
        _say(axes, "nothing was offered")
        return _settled(figure)
    labels = []
    obstacles = []
    for number, (name, (x, y, never)) in enumerate(curves.items()):
        color, dashes = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        text = f"{name}: {_percent(never)} never accepted" if never else name
        axes.plot(
            x, y, color=color, linestyle=dashes, linewidth=1.7, drawstyle="steps-post", label=text,
            zorder=2 if dashes == "-" else 2.5, clip_on=False,
        )  # fmt: skip
        end = (x[-1], y[-1]) if len(x) else (AT_ONCE, 0.0)
        marker, size = ("X", 8.0) if never else ("o", 4.5)
        axes.plot(
            *end, color=color, marker=marker, markersize=size, markeredgecolor="white" if never else color, zorder=4,
            clip_on=False, label="_end",
        )  # fmt: skip
        path = _dense(axes, x, y) if len(x) else np.array([[AT_ONCE, 0.0]])
        obstacles.append(path)
        # the cross says which curve it is; a curve without one is named beside a piece of it
        labels.append(Label(text, _legible(color), *((path[-1:],) if never else (path[::-5], dashes))))
    figure.draw_without_rendering()
    if not write_labels(axes, labels, obstacles):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=SMALL, handlelength=3.2)
    return _settled(figure)


def _curves(delays: "Mapping[str, np.typing.ArrayLike]") -> dict[str, tuple[Floats, Floats, float]]:
    """Return times and shares of each curve and the share never accepted; identical curves under one name."""
    names: dict[bytes, list[str]] = {}
    found: dict[bytes, tuple[Floats, Floats, float]] = {}
    for name, values in delays.items():
        seconds = np.sort(np.asarray(values, dtype=float))
        if not len(seconds):
            continue
        if not (seconds >= 0).all():  # nan is not either
            raise ValueError(f"delays of {name!r} must be at least 0 s, inf for never: got {seconds.min()}")
        accepted = np.maximum(seconds[np.isfinite(seconds)], AT_ONCE)
        x, counts = np.unique(accepted, return_counts=True)
        y = np.cumsum(counts) / len(seconds)
        if len(x) and x[0] > AT_ONCE:
            x, y = np.append(AT_ONCE, x), np.append(0.0, y)
        key = np.concatenate([x, y]).tobytes()
        names.setdefault(key, []).append(name)
        found[key] = x, y, 1 - len(accepted) / len(seconds)
    return {" = ".join(names[key]): curve for key, curve in found.items()}


def _dense(axes: Axes, x: Floats, y: Floats) -> Floats:
    """Points along a step curve on a logarithmic axis, close enough that no label slips between them."""
    corners_x, corners_y = np.repeat(np.log(x), 2)[1:], np.repeat(y, 2)[:-1]
    width, height = np.diff(np.log(axes.get_xlim()))[0], np.diff(axes.get_ylim())[0]
    walked = np.append(0.0, np.cumsum(np.abs(np.diff(corners_x)) / width + np.abs(np.diff(corners_y)) / height))
    steps = np.linspace(0, walked[-1], 250)
    return np.column_stack([np.exp(np.interp(steps, walked, corners_x)), np.interp(steps, walked, corners_y)])


def residuals(table: "pd.DataFrame", title: str, zero: dt.datetime, once: float, share: float = 0.01) -> Figure:
    """Draw by how much later than simulated each message was accepted, over the time at which it was created.

    Parameters
    ----------
    table : DataFrame
        What `Twin.residuals` returns: ``created_at`` and ``residual`` in scenario seconds, ``delay`` as simulated.
    title : str
        What is to be seen.
    zero : datetime
        Second 0.
    once : float
        One measured set-up and one measured transaction, in scenario seconds.
    share : float, optional
        By what share of itself a delay may differ besides.

    Returns
    -------
    Figure
        With one Axes; the band is what a message of the median delay may differ by.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"created_at": [0.0, 60.0], "residual": [0.1, -0.1], "delay": [0.0, 30.0]})
    >>> start = dt.datetime(2026, 12, 1, 9, tzinfo=dt.UTC)
    >>> residuals(table, "They agree", start, once=0.3).axes[0].get_ylabel()
    'accepted later than simulated (s)'
    """
    figure = _Figure(figsize=(WIDTH, 3.4), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes)
    if not len(table):
        _say(axes, "no message was accepted in both")
        return _settled(figure)
    created = table["created_at"].to_numpy(dtype=float)
    moments = [zero + dt.timedelta(seconds=second) for second in created.tolist()]
    order = np.argsort(created, kind="stable")
    allowed = (once + share * table["delay"].to_numpy(dtype=float))[order]
    days = _day(moments)
    axes.fill_between(days[order], -allowed, allowed, step="mid", color=PALE, alpha=0.3, linewidth=0)
    axes.axhline(0, color=PALE, linewidth=0.8)
    axes.plot(days, table["residual"].to_numpy(dtype=float), ".", markersize=3, color=BLUE, alpha=0.6)
    within = float((np.abs(table["residual"].to_numpy(dtype=float)[order]) <= allowed).mean())
    axes.set_ylabel("accepted later than simulated (s)", fontsize=NORMAL, color=INK)
    note = f"; grey: what a quantile may differ by ({_percent(within)} of {len(table):,} messages lie within)"
    _clock_axis(axes, (min(moments), max(moments) + MINUTE), note)
    return _settled(figure)


def progress(moments: "Mapping[str, Floats]", title: str, zero: dt.datetime) -> Figure:
    """Draw how many messages there were of each kind up to each moment of a run that may still be going on.

    Parameters
    ----------
    moments : mapping of str to ndarray
        By kind, ``due`` among them: when each message became one, in seconds since `zero`, ascending.
    title : str
        What is to be seen.
    zero : datetime
        Second 0.

    Returns
    -------
    Figure
        With one Axes.

    Examples
    --------
    >>> start = dt.datetime(2026, 12, 1, 9, tzinfo=dt.UTC)
    >>> figure = progress({"due": np.array([0.0, 60.0]), "accepted": np.array([1.0])}, "So far", start)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['due 2', 'accepted 1']
    """
    figure = _Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes)
    colors = {"due": PALE, "accepted": BLUE, "refused": ORANGE}
    known = {name: times for name, times in moments.items() if len(times)}
    if not known:
        _say(axes, "nothing has happened yet")
        return _settled(figure)
    last = max(float(times[-1]) for times in known.values())
    for name, times in known.items():
        seconds = np.concatenate([[0.0], times, [last if name == "due" else times[-1]]])
        days = _day([zero + dt.timedelta(seconds=second) for second in seconds.tolist()])
        counts = np.concatenate([np.arange(len(times) + 1), [len(times)]])
        color = colors.get(name, INK)
        axes.plot(days, counts, drawstyle="steps-post", color=color, linewidth=1.5)
        axes.annotate(
            f"{name} {len(times):,}", (days[-1], counts[-1]), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=_legible(color), annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_ylabel("messages so far", fontsize=NORMAL, color=INK)
    _clock_axis(axes, (zero, zero + dt.timedelta(seconds=last * 1.12 + 60)))
    return _settled(figure)


# How sure that is


def goodput(table: "pd.DataFrame", title: str, label: str = "accepted messages per hour") -> Figure:
    """Draw a metric of each alternative as a dot with its 95 % interval.

    Parameters
    ----------
    table : DataFrame
        One row per alternative, drawn in this order. Columns: ``alternative``, ``mean``, ``low``, ``high``; low and
        high may be missing values (no interval), mean too (no number).
    title : str
        What is to be seen.
    label : str, optional
        What the numbers are, with their unit.

    Returns
    -------
    Figure
        With one Axes.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"alternative": ["Gmail"], "mean": [279.5], "low": [277.1], "high": [281.9]})
    >>> [text.get_text() for text in goodput(table, "Gmail takes it all").axes[0].texts]
    ['280  (277 to 282)']
    """
    return _dots(table, title, f"{label}, with 95 % interval", signed=False)


def forest(differences: "pd.DataFrame", title: str, label: str = "difference from the first alternative") -> Figure:
    """Draw paired differences with their 95 % intervals and a line at 0.

    Parameters
    ----------
    differences : DataFrame
        One row per alternative, drawn in this order, with the columns of `goodput`'s table.
    title : str
        What is to be seen.
    label : str, optional
        What the numbers are, with their unit.

    Returns
    -------
    Figure
        With one Axes. The dot is open where the interval does not exclude 0.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"alternative": ["Gmail"], "mean": [12.0], "low": [-3.0], "high": [27.0]})
    >>> [text.get_text() for text in forest(table, "No difference shown").axes[0].texts]
    ['+12  (−3 to +27)']
    """
    return _dots(differences, title, f"{label}, with 95 % interval (open: 0 is not excluded)", signed=True)


def _dots(table: "pd.DataFrame", title: str, label: str, signed: bool) -> Figure:
    figure = _Figure(figsize=(WIDTH, 1.3 + 0.36 * max(len(table), 1)), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes, grid="x")
    axes.set_xlabel(label, fontsize=NORMAL, color=INK)
    axes.spines["left"].set_visible(False)
    rows = np.arange(len(table))
    means, lows, highs = (table[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    axes.set_yticks(rows, [str(name) for name in table["alternative"]])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    known = np.isfinite(means)
    if not known.any():
        _say(axes, "no numbers")
        axes.set_xticks([])
        return _settled(figure)
    sure = known & ((lows > 0) | (highs < 0)) if signed else known  # without an interval nothing is excluded
    lows, highs = np.where(np.isfinite(lows), lows, means), np.where(np.isfinite(highs), highs, means)
    axes.hlines(rows[known], lows[known], highs[known], color=INK, linewidth=1.6)
    for edge in (lows, highs):
        wide = known & (highs > lows)
        axes.plot(edge[wide], rows[wide], linestyle="", marker="|", markersize=8, markeredgewidth=1.6, color=INK)
    for chosen, face in ((sure, BLUE), (known & ~sure, "white")):
        axes.plot(
            means[chosen], rows[chosen], linestyle="", marker="o", markersize=7, markerfacecolor=face,
            markeredgecolor=BLUE, markeredgewidth=1.6, zorder=3,
        )  # fmt: skip
    if signed:
        axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    reach = np.append(np.concatenate([lows[known], highs[known]]), 0.0)
    margin = 0.04 * (np.ptp(reach) or 1.0)
    axes.set_xlim(reach.min() - margin if signed or reach.min() < 0 else 0.0, reach.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, signed)))
    for row, mean, low, high in zip(rows.tolist(), means, lows, highs, strict=True):
        interval = f"  ({_number(low, signed)} to {_number(high, signed)})" if high > low else ""
        text = f"{_number(mean, signed)}{interval}" if np.isfinite(mean) else "no number"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    return _settled(figure)


# How one number depends on another


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def dependence(
    points: "pd.DataFrame",
    title: str,
    across: str,
    up: str,
    lines: "Mapping[str, tuple[np.typing.ArrayLike, np.typing.ArrayLike]] | None" = None,
    unit: Literal["number", "share", "seconds"] = "number",
    log: bool = False,
) -> Figure:
    """Draw how a simulated number depends on another, where there is a theory as points on its curve.

    Parameters
    ----------
    points : DataFrame
        What was simulated. Columns: ``name``, whose number it is; ``x``; ``mean``, ``low``, ``high``. Low and high may
        be missing values (no interval), mean too (no number).
    title : str
        What is to be seen.
    across, up : str
        What the axes show, with units.
    lines : mapping of str to (x, y), optional
        A curve for each name. The points of a name without one are joined.
    unit : str, optional
        ``"share"`` labels the vertical axis in percent, ``"seconds"`` in minutes and hours on a logarithmic scale.
    log : bool, optional
        Whether the horizontal axis is logarithmic; it is then labelled at the points.

    Returns
    -------
    Figure
        With one Axes: a point with its 95 % interval where something was simulated.

    Examples
    --------
    >>> import pandas as pd
    >>> points = pd.DataFrame({"name": "M/M/1", "x": [0.5], "mean": [1.0], "low": [0.9], "high": [1.1]})
    >>> figure = dependence(points, "As theory has it", "load", "wait (s)", {"M/M/1": ([0.1, 0.5], [0.1, 1.0])})
    >>> figure.axes[0].get_xlabel()
    'load'
    """
    figure = _Figure(figsize=(WIDTH, 4.8), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes)
    axes.set_xlabel(across, fontsize=NORMAL, color=INK)
    axes.set_ylabel(up + (", log scale" if unit == "seconds" else ""), fontsize=NORMAL, color=INK)
    points = points[np.isfinite(points["mean"].to_numpy(dtype=float))]
    paths: dict[str, Floats] = {name: np.column_stack([*line]) for name, line in (lines or {}).items()}
    for name, mine in points.groupby("name", sort=False):
        paths.setdefault(str(name), mine[["x", "mean"]].to_numpy(dtype=float))
    if not paths:
        _say(axes, "no numbers")
        return _settled(figure)
    everywhere = np.concatenate(list(paths.values()))
    _axis_of_numbers(axes, np.unique(points["x"].to_numpy(dtype=float)), log)
    _axis_of_results(axes, np.append(everywhere[:, 1], points["high"].to_numpy(dtype=float)), unit)
    labels, obstacles = [], []
    for number, (name, path) in enumerate(paths.items()):
        color, dashes, marker = (signs[number % len(signs)] for signs in (COLORS, DASHES, MARKERS))
        axes.plot(*path.T, color=color, linestyle=dashes, linewidth=1.5, label=name, zorder=2)
        mine = points[points["name"] == name]
        x, mean, low, high = (mine[column].to_numpy(dtype=float) for column in ("x", "mean", "low", "high"))
        axes.vlines(x, low, high, color=color, linewidth=1.5, zorder=2.5)
        for edge in (low, high):
            axes.plot(x, edge, linestyle="", marker="_", color=color, markersize=7, label="_edge", zorder=2.5)
        axes.plot(
            x, mean, linestyle="", marker=marker, color=color, markersize=6, markeredgecolor="white",
            markeredgewidth=0.6, label="_points", zorder=3,
        )  # fmt: skip
        corners = axes.transData.transform(path)
        walked = np.append(0.0, np.hypot(*np.diff(corners, axis=0).T).cumsum())
        steps = np.linspace(0, walked[-1], 200)
        dense = np.column_stack([np.interp(steps, walked, corners[:, i]) for i in (0, 1)])
        obstacles += [axes.transData.inverted().transform(dense), path]
        labels.append(Label(name, _legible(color), obstacles[-2][::-4], dashes))
    figure.draw_without_rendering()
    if not write_labels(axes, labels, obstacles):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=SMALL, handlelength=3.2)
    return _settled(figure)


def _axis_of_numbers(axes: Axes, values: Floats, log: bool) -> None:
    """Set the horizontal axis: a logarithmic one is labelled at the values."""
    if log and len(values):
        axes.set_xscale("log")
        axes.set_xlim(values[0] / 1.15, values[-1] * 1.15)
        axes.set_xticks(values.tolist())
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _axis_of_results(axes: Axes, values: Floats, unit: str) -> None:
    """Set the vertical axis."""
    values = values[np.isfinite(values)]
    most = float(values.max()) or 1.0
    if unit == "seconds":
        axes.set_yscale("log")
        axes.set_ylim(max(float(values.min()) / 2, AT_ONCE), most * 3)
        ticks = [tick for tick in MARKS if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
        axes.set_yticks(ticks, [MARKS[tick] for tick in ticks])
        axes.minorticks_off()
        return
    axes.set_ylim(min(0.0, float(values.min())), most * 1.1)
    percent = unit == "share"
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %" if percent else _number(y)))


# The headline


class _Part(NamedTuple):
    """How one fate of a message is drawn."""

    column: str
    label: str
    face: str
    edge: str
    hatch: str


PARTS = (
    _Part("at_once", "accepted at once", BLUE, BLUE, ""),
    _Part("held", "later", "#F7DDA4", "#8a5f00", "////"),
    _Part("refused", "refused", INK, "white", "xxxx"),
    _Part("expired", "expired", "#9c9c9c", INK, "...."),
    _Part("waiting", "waiting", "white", INK, ""),
)


def comparison(rows: "pd.DataFrame", title: str, deadline: str = "", names: Mapping[str, str] | None = None) -> Figure:
    """Draw what becomes of the same messages on each channel: the picture for those who look at one only.

    Parameters
    ----------
    rows : DataFrame
        One row per alternative, drawn in this order. Columns: ``alternative``; ``offered``, ``at_once``, ``held``,
        ``refused``, ``expired``, ``waiting``, ``on_time``, in messages; ``held_mean``, how much later those
        of ``held`` are accepted, in seconds.
    title : str
        What is to be seen.
    deadline : str, optional
        When ``on_time`` was counted, like ``"17:30"``; without it the column is left out.
    names : mapping of str to str, optional
        Other words for ``at_once``, ``held``, ``refused``, ``expired`` and ``waiting``.

    Returns
    -------
    Figure
        With one Axes.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"alternative": "Office 365", "offered": 1000, "at_once": 30, "held": 970, "held_mean": 1026.0}
    >>> rows = pd.DataFrame([{**row, "refused": 0, "expired": 0, "waiting": 0, "on_time": 1000}])
    >>> [text.get_text() for text in comparison(rows, "All of it is accepted, by 10:33").axes[0].texts]
    ['30 accepted at once; 970 later (by 17.1 min on average)']
    """
    figure = _Figure(figsize=(WIDTH, 1.5 + 0.56 * max(len(rows), 1)), dpi=DPI, layout="constrained")
    _title(figure, title)
    axes = figure.subplots()
    _plain(axes, grid="")
    axes.spines["left"].set_visible(False)
    place = np.arange(len(rows))
    offered = rows["offered"].to_numpy(dtype=float)
    axes.set_yticks(place, [str(name) for name in rows["alternative"]], fontweight="bold")
    axes.set_ylim(max(len(rows), 1) - 0.3, -0.5)
    axes.set_xlabel("messages", fontsize=NORMAL, color=INK)
    if not len(rows):
        _say(axes, "no alternatives")
        axes.set_xticks([])
        return _settled(figure)
    axes.set_xlim(0, max(offered.max(), 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    left = np.zeros(len(rows))
    handles = []
    said: list[list[str]] = [[] for _ in place]
    for part in PARTS:
        counts = rows[part.column].to_numpy(dtype=float)
        label = (names or {}).get(part.column, part.label)
        if not (counts > 0).any():
            continue
        bars = axes.barh(
            place, counts, left=left, height=0.42, facecolor=part.face, edgecolor=part.edge, hatch=part.hatch,
            linewidth=0, label=label,
        )  # fmt: skip
        for bar in bars:
            bar.set_hatch_linewidth(0.8)
        axes.barh(place, counts, left=left, height=0.42, facecolor="none", edgecolor=INK, linewidth=0.7)
        outline = 0.0 if part.hatch else 0.7
        handle = Patch(facecolor=part.face, edgecolor=part.edge, hatch=part.hatch, linewidth=outline, label=label)
        handle.set_hatch_linewidth(0.8)
        handles.append(handle)
        for row, count in enumerate(counts):
            if count > 0:
                mean = float(rows["held_mean"].iloc[row]) if part.column == "held" else 0.0
                wait = f" (by {_span(mean)} on average)" if mean > 0 else ""
                said[row].append(f"{count:,.0f} {label}{wait}")
        left += counts
    for row, parts in enumerate(said):
        said_at = axes.text(0, row + 0.27, "; ".join(parts) or "nothing offered", va="top", fontsize=SMALL, color=INK)
        said_at.set_in_layout(False)  # a long line may go on under the column at the right
    if deadline:
        axes.text(
            1.02, 1.0, f"on time\nby {deadline}", transform=axes.transAxes, va="bottom", fontsize=NORMAL, color=INK
        )
        for row, (on_time, due) in enumerate(zip(rows["on_time"].to_numpy(dtype=float), offered, strict=True)):
            share = f"{_percent(on_time / due)}" if due else "–"
            axes.text(
                1.02, row, share, transform=axes.get_yaxis_transform(), va="center", fontsize=LARGE, fontweight="bold",
                color=INK,
            )  # fmt: skip
    _key(axes, handles, above=6)
    return _settled(figure)


# A day, while somebody asks


STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400)
"""Seconds between the labels of a clock."""


def finishing(
    curves: "Sequence[np.typing.ArrayLike]",
    finishes: "Mapping[str, np.typing.ArrayLike]",
    title: str,
    start: dt.datetime,
    deadline: float,
    labels: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw how a channel takes a day's mail, a line for each simulated day, and when each channel is done, a dot a day.

    Parameters
    ----------
    curves : sequence of array
        For each simulated day of one channel, when its messages were accepted, in seconds since `start`, ascending; inf
        for those that never were.
    finishes : mapping of str to array
        For each channel, drawn in this order, when the last message was accepted on each simulated day; inf if one
        never was.
    title : str
        What is to be seen.
    start : datetime
        When second 0 is.
    deadline : float
        In seconds since `start`.
    labels : mapping of str to str
        What the axes and the line are called: ``messages`` (accepted so far), ``done`` (one dot a simulated day) and
        ``deadline``.
    notes : mapping of str to str, optional
        What stands at the right of a channel.

    Returns
    -------
    Figure
        With two Axes above each other, on one clock. A deadline that is far off is only named.

    Examples
    --------
    >>> labels = {"messages": "accepted", "done": "all accepted", "deadline": "deadline 17:30"}
    >>> nine = dt.datetime(2026, 12, 1, 9)
    >>> figure = finishing([[0, 60, 120]], {"Office 365": [120.0]}, "3 by 09:02", nine, 30600.0, labels)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['Office 365']
    """
    rows = {name: np.asarray(days, dtype=float) for name, days in finishes.items()}
    height = 3.1 + 0.36 * max(len(rows), 1)
    figure = _Figure(figsize=(WIDTH, height), dpi=DPI)  # laid out by hand: it is drawn while somebody waits
    _title(figure, title)
    lines = 1 + _letters(title) // 76
    top, bottom, gap = 1 - (0.15 + 0.22 * lines) / height, 0.5 / height, 0.22 / height
    part = 0.36 * max(len(rows), 1) / height
    left = min(0.4, 0.03 + max(map(_letters, rows), default=0) * 0.0112)
    wide = 0.98 - left - min(0.3, max(map(_letters, (notes or {}).values()), default=0) * 0.0105)
    days = figure.add_axes((left, bottom, wide, part))
    taken = figure.add_axes((left, bottom + part + gap, wide, top - bottom - part - gap), sharex=days)
    numbers = [np.asarray(curve, dtype=float) for curve in curves]
    ends = np.concatenate([*rows.values(), np.zeros(1)])
    last = float(ends[np.isfinite(ends)].max()) or 60.0
    near = deadline <= 3 * last
    right = max(last, deadline if near else 0.0) * 1.04

    _plain(taken)
    _plain(days, grid="x")
    days.set_xlim(0, right)
    offered = max((len(curve) for curve in numbers), default=0)
    taken.set_ylim(0, max(offered, 1) * 1.06)
    taken.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    taken.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    taken.set_ylabel(labels["messages"], fontsize=NORMAL, color=INK)
    taken.tick_params(labelbottom=False)
    for curve in numbers:
        done = curve[np.isfinite(curve)]
        taken.step(
            np.concatenate([[0.0], done, [right]]), np.concatenate([[0], np.arange(len(done)) + 1, [len(done)]]),
            where="post", color=BLUE, linewidth=1.0, alpha=max(0.25, 1 / max(len(numbers), 1)),
        )  # fmt: skip
    for place, name in enumerate(rows):
        found = rows[name][np.isfinite(rows[name])]
        days.plot(
            found, np.full(len(found), place), linestyle="", marker="o", markersize=6, color=BLUE,
            markeredgecolor="white", markeredgewidth=0.5, alpha=0.8, clip_on=False,
        )  # fmt: skip
        note = (notes or {}).get(name, "")
        days.text(1.02, place, note, transform=days.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    days.set_yticks(np.arange(len(rows)), list(rows))
    days.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    days.set_xlabel(labels["done"], fontsize=NORMAL, color=INK)
    step = next((step for step in STEPS if right / step <= 7), STEPS[-1])
    first = -(start.hour * 3600 + start.minute * 60 + start.second) % step
    ticks = np.arange(first, right, step)
    form = "%H:%M" if step >= 60 else "%H:%M:%S"
    days.set_xticks(ticks, [(start + dt.timedelta(seconds=float(tick))).strftime(form) for tick in ticks])
    if near:
        for axes in (taken, days):
            axes.axvline(deadline, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    inside = near and deadline < right / 2
    at = offset_copy(taken.get_xaxis_transform(), fig=figure, x=GAP if inside else -GAP, units="points")
    taken.text(
        deadline if near else right, 0.06, labels["deadline"] + ("" if near else " \N{RIGHTWARDS ARROW}"),
        transform=at, ha="left" if inside else "right", fontsize=SMALL, color=INK, path_effects=HALO,
    )  # fmt: skip
    return figure


def _letters(text: str) -> int:
    """Return how wide a text is, in letters: East Asian ones count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


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
    >>> labels = {"messages": "受理された通数", "done": "すべて受理された時刻", "deadline": "締め切り 17:30"}
    >>> figure = finishing([[60.0]], {"自社": [60.0]}, "", dt.datetime(2026, 12, 1, 9), 30600.0, labels)
    >>> with_japanese(figure).axes[0].get_yticklabels()[0].get_fontfamily()
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


# What all of them share


def _title(figure: Figure, title: str) -> None:
    if title:
        wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in title)
        lines = -(-(len(title) + wide) // 76)  # of what fits
        least = max(60 if not wide else 0, -(-len(title) // lines))  # the first line long, unless any letter ends one
        widths = range(least, max(least, len(title)) + 1)
        text = next(wrapped for width in widths if len(wrapped := textwrap.wrap(title, width)) <= lines)
        figure.suptitle("\n".join(text), x=0.012, ha="left", fontsize=LARGE, fontweight="bold", color=INK)


def _settled(figure: Figure) -> Figure:
    """Lay a figure out for good: labels stay where they were placed, and it is the same file each time it is saved."""
    for _ in range(2):  # the second time with the sizes that the first has found
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _plain(axes: Axes, grid: str = "y") -> None:
    """Leave of the frame what helps to read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=NORMAL, color=PALE, labelcolor=INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis="x" if grid == "x" else "y", color="#e4e4e4", linewidth=0.8)


def _key(axes: Axes, handles: Sequence[Any], above: float) -> None:
    """Write what the signs mean in one line so many points above the axes."""
    at = offset_copy(axes.transAxes, fig=axes.get_figure(root=True), y=above, units="points")
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=at, borderaxespad=0, borderpad=0,
        ncols=5, frameon=False, fontsize=SMALL, handlelength=1.6, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip


def _legible(color: str) -> str:
    """Darken a color that is too light for text."""
    return {ORANGE: "#8a5f00", PALE: "#666666", "#56B4E9": "#1f6f9f"}.get(color, color)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=LARGE, color=PALE)


def _number(value: float, signed: bool = False) -> str:
    sign = "+" if signed and value > 0 else ""
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.1f}" if size >= 1 else f"{value:.2g}"
    return f"{sign}{text}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    """Write a share in percent, never as 0 or 100 if it is neither."""
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if percent < 0.1 or percent > 99.9:
        return "under 0.1 %" if percent < 50 else "over 99.9 %"
    digits = 1 if percent < 10 or percent > 90 else 0
    return f"{percent:.{digits}f}".removesuffix(".0") + " %"


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{_number(seconds)} s"
