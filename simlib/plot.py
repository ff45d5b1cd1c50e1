"""The plots: what happened when, how long it took, and how sure that is.

Every function takes plain tables, returns a `Figure` and writes nothing; `save` writes one. What color tells is told
again by a marker, a hatch or a dash pattern and by a label at the thing itself, so every plot works in black and white.
Nothing here touches pyplot or matplotlib's settings: the caller's font and backend stay as they are.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from simlib.labels import SMALL, Label, write_labels
from simlib.plot_day import finishing
from simlib.plot_load import progress, residuals
from simlib.plot_style import (
    AT_ONCE,
    BLUE,
    COLORS,
    DASHES,
    DPI,
    INK,
    LARGE,
    MARKS,
    NORMAL,
    WIDTH,
    Floats,
    Shown,
    as_number,
    as_percent,
    as_span,
    img,
    legible,
    note,
    plain_frame,
    save,
    settled,
    with_japanese,
    write_instead,
    write_key,
    write_title,
)
from simlib.plot_sweep import Divide, dependence
from simlib.plot_timeline import timeline, timelines

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Divide",
    "comparison",
    "delay_ecdf",
    "dependence",
    "finishing",
    "forest",
    "goodput",
    "img",
    "note",
    "progress",
    "residuals",
    "save",
    "timeline",
    "timelines",
    "with_japanese",
]


# How long it took


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
    figure = Shown(figsize=(WIDTH, 4.8), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes)
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
        write_instead(axes, "nothing was offered")
        return settled(figure)
    labels = []
    obstacles = []
    for number, (name, (x, y, never)) in enumerate(curves.items()):
        color, dashes = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        text = f"{name}: {as_percent(never)} never accepted" if never else name
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
        labels.append(Label(text, legible(color), *((path[-1:],) if never else (path[::-5], dashes))))
    figure.draw_without_rendering()
    if not write_labels(axes, labels, obstacles):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=SMALL, handlelength=3.2)
    return settled(figure)


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
    figure = Shown(figsize=(WIDTH, 1.3 + 0.36 * max(len(table), 1)), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes, grid="x")
    axes.set_xlabel(label, fontsize=NORMAL, color=INK)
    axes.spines["left"].set_visible(False)
    rows = np.arange(len(table))
    means, lows, highs = (table[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    axes.set_yticks(rows, [str(name) for name in table["alternative"]])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    known = np.isfinite(means)
    if not known.any():
        write_instead(axes, "no numbers")
        axes.set_xticks([])
        return settled(figure)
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value, signed)))
    for row, mean, low, high in zip(rows.tolist(), means, lows, highs, strict=True):
        interval = f"  ({as_number(low, signed)} to {as_number(high, signed)})" if high > low else ""
        text = f"{as_number(mean, signed)}{interval}" if np.isfinite(mean) else "no number"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    return settled(figure)


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
        When ``on_time`` was counted, like ``"17:30"``; without it ``within_hour`` is shown, if there is such a column.
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
    figure = Shown(figsize=(WIDTH, 1.5 + 0.56 * max(len(rows), 1)), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes, grid="")
    axes.spines["left"].set_visible(False)
    place = np.arange(len(rows))
    offered = rows["offered"].to_numpy(dtype=float)
    axes.set_yticks(place, [str(name) for name in rows["alternative"]], fontweight="bold")
    axes.set_ylim(max(len(rows), 1) - 0.3, -0.5)
    axes.set_xlabel("messages", fontsize=NORMAL, color=INK)
    if not len(rows):
        write_instead(axes, "no alternatives")
        axes.set_xticks([])
        return settled(figure)
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
            if round(count):
                mean = float(rows["held_mean"].iloc[row]) if part.column == "held" else 0.0
                wait = f" (by {as_span(mean)} on average)" if mean > 0 else ""
                said[row].append(f"{count:,.0f} {label}{wait}")
        left += counts
    beneath = []
    for row, parts in enumerate(said):
        said_at = axes.text(0, row + 0.27, "; ".join(parts) or "nothing offered", va="top", fontsize=SMALL, color=INK)
        said_at.set_in_layout(False)  # a long line may go on under the column at the right
        beneath.append(said_at)
    column, heading = ("on_time", f"on time\nby {deadline}") if deadline else ("within_hour", "within\nan hour")
    if column in rows:
        axes.text(1.02, 1.0, heading, transform=axes.transAxes, va="bottom", fontsize=NORMAL, color=INK)
        for row, (soon, due) in enumerate(zip(rows[column].to_numpy(dtype=float), offered, strict=True)):
            share = f"{as_percent(soon / due)}" if due else "–"
            axes.text(
                1.02, row, share, transform=axes.get_yaxis_transform(), va="center", fontsize=LARGE, fontweight="bold",
                color=INK,
            )  # fmt: skip
    write_key(axes, handles, above=6)
    settled(figure)
    key = axes.get_legend()
    assert key is not None
    box = key.get_window_extent()
    if box.x1 > axes.bbox.x1:  # a long key begins above the names, so that it ends before the column at the right
        start = max(axes.bbox.x1 - box.width, 4)
        key.set_bbox_to_anchor(axes.transAxes.inverted().transform((start, box.y0)).tolist())
    for one in beneath:  # smaller where even that isn't room enough
        box = one.get_window_extent()
        one.set_fontsize(SMALL * min(1.0, (figure.bbox.x1 - box.x0 - 4) / box.width))
    return figure
