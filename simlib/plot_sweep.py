"""How one number depends on another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from simlib.labels import SMALL, Label, write_labels
from simlib.plot_style import (
    AT_ONCE,
    COLORS,
    DASHES,
    DPI,
    INK,
    MARKS,
    NORMAL,
    PALE,
    WIDTH,
    Floats,
    Shown,
    as_number,
    legible,
    plain_frame,
    settled,
    write_instead,
    write_title,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Divide", "dependence"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Divide(NamedTuple):
    """A place on the horizontal axis at which the better of two changes, and what is better on either side of it.

    Parameters
    ----------
    at, low, high : float
        The place, and the ends of its 95 % interval.
    text : str
        What it is.
    left, right : str
        What is better below it, and above.

    Examples
    --------
    >>> Divide(0.19, 0.13, 0.26, "a new IP breaks even", "the pool will do", "an IP of our own").at
    0.19
    """

    at: float
    low: float
    high: float
    text: str
    left: str
    right: str


def dependence(
    points: "pd.DataFrame",
    title: str,
    across: str,
    up: str,
    lines: "Mapping[str, tuple[np.typing.ArrayLike, np.typing.ArrayLike]] | None" = None,
    unit: Literal["number", "share", "seconds"] = "number",
    log: bool = False,
    divide: Divide | None = None,
    across_unit: Literal["number", "share"] = "number",
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
    divide : Divide, optional
        Where the better of two changes: a line, its interval as a band, and on top what is better on either side.
    across_unit : str, optional
        ``"share"`` labels the horizontal axis in percent.

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
    figure = Shown(figsize=(WIDTH, 4.8), dpi=DPI, layout="constrained")
    write_title(figure, title)
    axes = figure.subplots()
    plain_frame(axes)
    axes.set_xlabel(across, fontsize=NORMAL, color=INK)
    axes.set_ylabel(up + (", log scale" if unit == "seconds" else ""), fontsize=NORMAL, color=INK)
    points = points[np.isfinite(points["mean"].to_numpy(dtype=float))]
    paths: dict[str, Floats] = {name: np.column_stack([*line]) for name, line in (lines or {}).items()}
    for name, mine in points.groupby("name", sort=False):
        paths.setdefault(str(name), mine[["x", "mean"]].to_numpy(dtype=float))
    if not paths:
        write_instead(axes, "no numbers")
        return settled(figure)
    everywhere = np.concatenate(list(paths.values()))
    _axis_of_numbers(axes, np.unique(points["x"].to_numpy(dtype=float)), log)
    _axis_of_results(axes, np.append(everywhere[:, 1], points["high"].to_numpy(dtype=float)), unit)
    if across_unit == "share":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    labels: list[Label] = []
    obstacles = [_divided(axes, divide)] if divide else []
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
        labels.append(Label(name, legible(color), obstacles[-2][::-4], dashes))
    figure.draw_without_rendering()
    if not write_labels(axes, labels, obstacles):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=SMALL, handlelength=3.2)
    return settled(figure)


def _divided(axes: Axes, divide: Divide) -> Floats:
    """Draw where the better of two changes; return points of the line."""
    axes.axvspan(divide.low, divide.high, color=PALE, alpha=0.18, linewidth=0, label="_interval", zorder=0.5)
    axes.axvline(divide.at, color=INK, linewidth=1.0, linestyle=(0, (1, 2)), label="_divide", zorder=1)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, bottom + (top - bottom) * 1.22)  # room for what is said on top
    for at, y, align, said, weight in (
        (divide.at, 0.975, "right", f"← {divide.left}  ", "bold"),
        (divide.at, 0.975, "left", f"  {divide.right} →", "bold"),
        (divide.at, 0.905, "left", f"  {divide.text}", "normal"),
    ):
        axes.text(
            at, y, said, transform=axes.get_xaxis_transform(), ha=align, va="top", fontsize=NORMAL, color=INK,
            fontweight=weight, zorder=5,
        )  # fmt: skip
    return np.column_stack([np.full(50, divide.at), np.linspace(*axes.get_ylim(), 50)])


def _axis_of_numbers(axes: Axes, values: Floats, log: bool) -> None:
    """Set the horizontal axis: a logarithmic one is labelled at the values."""
    if log and len(values):
        axes.set_xscale("log")
        axes.set_xlim(values[0] / 1.15, values[-1] * 1.15)
        axes.set_xticks(values.tolist())
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value)))


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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %" if percent else as_number(y)))
