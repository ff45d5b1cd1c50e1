"""How a load test goes on, and how far what it measured lies from what was simulated."""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from simlib.labels import SMALL
from simlib.plot_style import (
    BLUE,
    DPI,
    INK,
    MINUTE,
    NORMAL,
    ORANGE,
    PALE,
    WIDTH,
    Floats,
    Shown,
    as_days,
    as_percent,
    clock_axis,
    legible,
    plain_frame,
    settled,
    write_instead,
    write_title,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["progress", "residuals"]


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
    figure = Shown(figsize=(WIDTH, 3.4), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes)
    if not len(table):
        write_instead(axes, "no message was accepted in both")
        return settled(figure)
    created = table["created_at"].to_numpy(dtype=float)
    moments = [zero + dt.timedelta(seconds=second) for second in created.tolist()]
    order = np.argsort(created, kind="stable")
    allowed = (once + share * table["delay"].to_numpy(dtype=float))[order]
    days = as_days(moments)
    axes.fill_between(days[order], -allowed, allowed, step="mid", color=PALE, alpha=0.3, linewidth=0)
    axes.axhline(0, color=PALE, linewidth=0.8)
    axes.plot(days, table["residual"].to_numpy(dtype=float), ".", markersize=3, color=BLUE, alpha=0.6)
    within = float((np.abs(table["residual"].to_numpy(dtype=float)[order]) <= allowed).mean())
    axes.set_ylabel("accepted later than simulated (s)", fontsize=NORMAL, color=INK)
    note = f"; grey: what a quantile may differ by ({as_percent(within)} of {len(table):,} messages lie within)"
    clock_axis(axes, (min(moments), max(moments) + MINUTE), note)
    return settled(figure)


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
    figure = Shown(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes)
    colors = {"due": PALE, "accepted": BLUE, "refused": ORANGE}
    known = {name: times for name, times in moments.items() if len(times)}
    if not known:
        write_instead(axes, "nothing has happened yet")
        return settled(figure)
    last = max(float(times[-1]) for times in known.values())
    for name, times in known.items():
        seconds = np.concatenate([[0.0], times, [last if name == "due" else times[-1]]])
        days = as_days([zero + dt.timedelta(seconds=second) for second in seconds.tolist()])
        counts = np.concatenate([np.arange(len(times) + 1), [len(times)]])
        color = colors.get(name, INK)
        axes.plot(days, counts, drawstyle="steps-post", color=color, linewidth=1.5)
        axes.annotate(
            f"{name} {len(times):,}", (days[-1], counts[-1]), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=legible(color), annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_ylabel("messages so far", fontsize=NORMAL, color=INK)
    clock_axis(axes, (zero, zero + dt.timedelta(seconds=last * 1.12 + 60)))
    return settled(figure)
