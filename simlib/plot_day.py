"""How a day goes on each channel, while somebody asks."""

import datetime as dt
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy

from simlib.labels import GAP, HALO, SMALL
from simlib.plot_style import BLUE, DPI, INK, NORMAL, WIDTH, Shown, plain_frame, write_title

if TYPE_CHECKING:
    pass

__all__ = ["finishing"]

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
    figure = Shown(figsize=(WIDTH, height), dpi=DPI)  # laid out by hand: it is drawn while somebody waits
    write_title(figure, title)
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

    plain_frame(taken)
    plain_frame(days, grid="x")
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
