"""Where a plot's labels go: beside what they name, over nothing that is drawn, and over no other label."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

__all__ = ["GAP", "HALO", "SMALL", "Label", "write_labels"]

Floats = np.typing.NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, right, top

SMALL = 9.0  # points
HALO = [withStroke(linewidth=2.5, foreground="white")]
GAP, SAMPLE = 4.0, 20.0  # points: between a thing and its label; a piece of a curve before its name


class Label(NamedTuple):
    """A text, and where it may stand.

    Parameters
    ----------
    text : str
        What it says.
    color : str
        As matplotlib names it.
    anchors : ndarray
        A row a place, best first: x and y, in the units of the axes.
    dashes : line style, optional
        Of the curve that it names; a piece of it is drawn before the text.
    """

    text: str
    color: str
    anchors: Floats
    dashes: Any = None


def write_labels(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Floats]) -> bool:
    """Write each label near one of its anchors where it covers neither what is drawn nor another label.

    Parameters
    ----------
    axes : Axes
        Laid out for good: its texts, too, are not covered.
    labels : sequence of Label
        What to write.
    obstacles : sequence of ndarray
        Points of what is drawn, x and y in the units of the axes, close enough that no label fits in between.

    Returns
    -------
    bool
        Whether all fit; if not, none is written.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> write_labels(axes, [Label("half", "black", np.array([[0.5, 0.5]]))], [np.array([[0.5, 0.5]])])
    True
    >>> [text.get_text() for text in axes.texts]
    ['half']
    """
    point = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    gap, sample = GAP * point, SAMPLE * point
    drawn = np.concatenate([axes.transData.transform(points) for points in obstacles])
    frame = _box(axes.get_window_extent().padded(-2))
    taken = [_box(text.get_window_extent()) for text in axes.texts]
    to_data = axes.transData.inverted()
    written: list[Artist] = []
    for label in sorted(labels, key=lambda label: len(label.anchors)):  # those with little choice first
        text = axes.text(0, 0, label.text, fontsize=SMALL, color=label.color, path_effects=HALO, zorder=5)
        text.set_in_layout(False)
        written.append(text)
        size = text.get_window_extent()
        before = 0.0 if label.dashes is None else sample + gap
        found = _room(
            axes.transData.transform(label.anchors), before + size.width, size.height, drawn, frame, taken, gap
        )
        if found is None:
            for artist in written:
                artist.remove()
            return False
        (left, bottom, right, top), far, anchor = found
        taken.append((left, bottom, right, top))
        text.set(position=to_data.transform((left + before, bottom)), verticalalignment="bottom")
        lines: list[tuple[Any, Any, float]] = []
        if label.dashes is not None:
            middle = (bottom + top) / 2
            lines.append(([(left, middle), (left + sample, middle)], label.dashes, 1.7))
        if far:
            lines.append(([anchor, (np.clip(anchor[0], left, right), np.clip(anchor[1], bottom, top))], "-", 0.7))
        for ends, dashes, width in lines:
            x, y = to_data.transform(ends).T
            written += axes.plot(x, y, color=label.color, linestyle=dashes, linewidth=width, zorder=4.5, label="_sign")
    return True


def _box(extent: Bbox) -> Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def _room(
    anchors: Floats, width: float, height: float, drawn: Floats, frame: Box, taken: Sequence[Box], gap: float
) -> tuple[Box, bool, Floats] | None:
    """Find the box that covers least: where it is, whether it is away from its anchor, and the anchor."""
    best: tuple[Box, bool, Floats] | None = None
    least = np.inf
    for rank, anchor in enumerate(anchors):
        for left, bottom, far in _beside(anchor[0], anchor[1], width, height, gap):
            box = (left, bottom, left + width, bottom + height)
            if box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]:
                continue
            if any(left < t[2] + gap and box[2] > t[0] - gap and bottom < t[3] and box[3] > t[1] for t in taken):
                continue
            cost = _crowding(drawn, box, gap) + far + 0.002 * rank
            if cost < least:
                least, best = cost, (box, far, anchor)
    return best


def _beside(x: float, y: float, width: float, height: float, gap: float) -> list[tuple[float, float, bool]]:
    """List where a box may stand: its lower left corner, and whether that is away from the point, not next to it."""
    places = []
    for far, away in ((False, gap), (True, 3 * gap)):
        across = (x + away, x - width / 2, x - away - width)
        up = (y + away, y - height / 2, y - away - height)
        places += [(across[i], up[k], far) for i, k in np.ndindex(3, 3) if (i, k) != (1, 1)]
    return places


def _crowding(points: Floats, box: Box, gap: float) -> float:
    """How much of what is drawn a box covers, and a little for what it nearly covers."""
    dx = np.maximum(np.maximum(box[0] - points[:, 0], points[:, 0] - box[2]), 0.0)
    dy = np.maximum(np.maximum(box[1] - points[:, 1], points[:, 1] - box[3]), 0.0)
    away = np.hypot(dx, dy)
    return float((away < 0.7 * gap).sum() + 0.005 * np.maximum(1 - away / (6 * gap), 0).sum())
