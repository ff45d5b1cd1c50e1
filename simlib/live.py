"""A load test to watch in a notebook: a plot that redraws itself while the mail goes out."""

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from simlib import plot

__all__ = ["Live"]

EVERY: Final = 1.0  # seconds of real time between two drawings: more often, and drawing would slow the load down


class Live:
    """Draws how much was due, accepted and refused so far; give it to `load` as its `progress`.

    Parameters
    ----------
    folder : Path
        Where the load test writes its ledgers.
    zero : datetime
        The scenario's second 0.
    title : str
        What is to be seen.

    Examples
    --------
    ``load(scenario, "SparkPost", folder, progress=Live(folder, scenario.zero, "SparkPost"))``
    """

    def __init__(self, folder: Path, zero: dt.datetime, title: str) -> None:
        self.folder = folder
        self.zero = zero
        self.title = title
        self._read: dict[Path, int] = {}
        self._rows: list[tuple[float, bool]] = []
        self._due: Any = None
        self._drawn_at = 0.0
        self._handle: Any = None

    def __call__(self, done: int, of: int) -> None:
        """Be told that so many messages are decided, of so many."""
        if time.monotonic() - self._drawn_at < EVERY and done < of:
            return
        self._drawn_at = time.monotonic()
        self._follow()
        figure = self.figure(f"{self.title}: {done:,} of {of:,} messages decided")
        if self._handle is None:
            from IPython.display import display

            self._handle = display(figure, display_id=True)  # type: ignore[no-untyped-call]
        elif self._handle is not None:
            self._handle.update(figure)

    def figure(self, title: str) -> Any:
        """Draw what is known so far.

        Parameters
        ----------
        title : str
            What stands above it.

        Returns
        -------
        Figure
            Of Matplotlib.
        """
        if self._due is None:
            lines = (self.folder / "plan.jsonl").read_text(encoding="utf-8").splitlines()
            self._due = np.sort([json.loads(line)["due"] for line in lines])
        rows = sorted(self._rows)
        accepted = np.array([at for at, good in rows if good])
        refused = np.array([at for at, good in rows if not good])
        return plot.progress({"due": self._due, "accepted": accepted, "refused": refused}, title, self.zero)

    def _follow(self) -> None:
        """Read what the ledgers have got since."""
        for path in self.folder.glob("client*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                row = json.loads(line)
                if row["final"]:
                    self._rows.append((row["ended_at"], 200 <= row["code"] < 300))
