"""What happened when, minute by minute: of one channel or of several, one above the other."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from simlib.labels import HALO, SMALL, Label, write_labels
from simlib.plot_style import (
    BLUE,
    DPI,
    INK,
    MINUTE,
    NORMAL,
    ORANGE,
    WIDTH,
    Floats,
    Shown,
    as_days,
    clock_axis,
    legible,
    plain_frame,
    settled,
    write_instead,
    write_key,
    write_title,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["timeline", "timelines"]

Bools = np.typing.NDArray[np.bool_]


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
    figure = Shown(figsize=(WIDTH, 4.0), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes)
    if not _busy(table).any():
        write_instead(axes, "nothing was sent")
        return settled(figure)
    shown = _between([table], between)
    part = _cut(table, shown)
    log = _dwarfed([part])
    _scale(axes, [part], log, headroom=True)
    axes.set_ylabel("attempts per minute" + (", log scale" if log else ""), fontsize=NORMAL, color=INK)
    everything, inside = (int(one[COUNTED].to_numpy().sum()) for one in (table, part))
    outside = f" ({everything - inside:,} of {everything:,} attempts lie outside)" if inside < everything else ""
    clock_axis(axes, shown, outside)
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
        labels.append(Label(text, legible(series.color), _heights(points)))
        obstacles += [points, points, points]  # a label may rather cross a stem than hide a marker
    top = part[COUNTED].to_numpy(dtype=float).max(axis=1)
    for share in np.linspace(0.05, 0.95, 15):
        obstacles.append(np.column_stack([_days(part), (1 + top) ** share - 1 if log else top * share]))
    settled(figure)
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
        For each alternative, the id of the limit that binds it, or the reply that refuses most.
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
    figure = Shown(figsize=(WIDTH, 1.3 + 1.15 * max(len(tables), 1)), dpi=DPI, layout="constrained")
    write_title(figure, title)
    if not any(_busy(table).any() for table in tables.values()):
        axes = figure.subplots()
        plain_frame(axes)
        write_instead(axes, "nothing was sent")
        return settled(figure)
    shown = _between(list(tables.values()), between, share=0.95)
    parts = {name: _cut(table, shown) for name, table in tables.items()}
    everything, inside = (
        sum(int(one[THROTTLED].to_numpy().sum()) for one in some) for some in (tables.values(), parts.values())
    )
    outside = (
        f"\n{everything - inside:,} of {everything:,} attempts held, deferred or refused lie outside"
        if inside < everything
        else ""
    )
    log = _dwarfed(list(parts.values()))
    rows = figure.subplots(len(tables), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, part) in zip(rows, parts.items(), strict=False):
        plain_frame(axes)
        _scale(axes, list(parts.values()), log, headroom=False)
        clock_axis(axes, shown, outside)
        axes.label_outer()
        _minutes(axes, part)
        axes.set_title(name, loc="left", fontsize=NORMAL, fontweight="bold", color=INK, pad=3)
        axes.set_title(
            _outcome(tables[name], (limits or {}).get(name, "")), loc="right", fontsize=SMALL, color=INK, pad=3
        )
    handles: list[Line2D | Patch] = [_handle(series) for series in SERIES]
    handles.append(Patch(facecolor=SHADES(1.0), label="a limit holds replies"))
    write_key(rows[0], handles, above=20)
    figure.supylabel("attempts per minute" + (", log scale" if log else ""), fontsize=NORMAL, color=INK)
    return settled(figure)


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
    return as_days(index.to_numpy(dtype="datetime64[ns]")) + 0.5 / 1440


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
            markeredgecolor=legible(series.color), markeredgewidth=0.5 if series.filled else 0.9,
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
