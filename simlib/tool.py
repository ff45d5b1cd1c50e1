"""A tool: the application or mail server that sends. Its pacing, parallelism and retries are facts, too.

They stand in ``simlib/tools/NAME.toml``.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from simlib.facts import Fact, Frozen, Seconds, check, read_toml, table_html, table_text
from simlib.sender import Pace, Retry

__all__ = ["Habit", "Tool", "tools"]


class Habit(Fact):
    """What a tool does on the channels to some providers.

    As every fact (`facts.Fact`) it says where it comes from: `source`, `as_of`, `grade`, `review_by`, `note`,
    `assumed`, `since` and `until`.

    Parameters
    ----------
    id : str
        Its name within the tool.
    providers : tuple of str, optional
        Which providers; by default all those that no other habit of the tool names.
    pace : Pace, optional
        Its batch in messages, and the wait in seconds; none where no source says.
    connections : int, optional
        Connections that it opens at once.
    retry : str or tuple of float, optional
        ``"none"``, or the seconds between attempts; the last one repeats.
    queue_lifetime : float, optional
        Seconds after which it gives up.
    typed_into : str, optional
        The setting in which a customer chooses the pace; empty where none can be chosen.
    failed_into : str, optional
        Where mail that failed is found again.
    """

    id: str
    providers: tuple[str, ...] = ()
    pace: Annotated[Pace | None, BeforeValidator(lambda value: None if value is None else Pace.parse(value))] = None
    connections: int | None = Field(default=None, ge=1)
    retry: Literal["none"] | tuple[Seconds, ...] | None = None
    queue_lifetime: Seconds | None = None
    typed_into: str = ""
    failed_into: str = ""

    @property
    def schedule(self) -> Retry | None:
        """The retry schedule, None if no source states one."""
        if self.retry is None:
            return None
        delays = () if self.retry == "none" else self.retry
        return Retry(delays) if self.queue_lifetime is None else Retry(delays, self.queue_lifetime)


class Tool(Frozen):
    """The application that sends (Sales Connect, Outreach, Postfix, …).

    Parameters
    ----------
    name : str
        Its file's name.
    title : str
        What people call it.
    note : str, optional
        What isn't known.
    habits : tuple of Habit
        What it does on each kind of channel, with source, date and grade.

    Examples
    --------
    >>> str(Tool.load("sales-connect").habit("office365").pace)
    '25 every 45 s'
    """

    name: str
    title: str
    note: str = ""
    habits: tuple[Habit, ...]

    @classmethod
    def load(cls, name: str) -> "Tool":
        """Read ``simlib/tools/NAME.toml``; an unknown name is a ValueError that lists the known ones.

        Parameters
        ----------
        name : str
            A file's name in ``simlib/tools``.

        Returns
        -------
        Tool
            What is known of it.

        Raises
        ------
        ValueError
            If there is no such tool; the line lists those that there are.
        """
        return _load(name)

    def habit(self, provider: str) -> Habit | None:
        """Return what the tool does on channels to that provider, None if no source says.

        Parameters
        ----------
        provider : str
            Where the channel leads to.

        Returns
        -------
        Habit or None
            Pace, connections, retries.
        """
        named = [habit for habit in self.habits if provider in habit.providers]
        others = [habit for habit in self.habits if not habit.providers]
        return next(iter(named + others), None)

    def __repr__(self) -> str:
        return f"<Tool {self.name}: {len(self.habits)} habits>"

    def __str__(self) -> str:
        rows = [{name: cell for name, cell in row.items() if name != "source"} for row in self._rows()]
        return table_text(rows, self.title)

    def _repr_html_(self) -> str:
        return table_html(self._rows(), self.title)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "habit": habit.id,
                "channels to": ", ".join(habit.providers) or "all others",
                "pace": habit.pace or "–",
                "connections": habit.connections or "–",
                "retry": "–" if habit.schedule is None else _told(habit.schedule),
                "typed into": habit.typed_into or "–",
                "grade": f"{habit.grade} (assumed: {', '.join(habit.assumed)})" if habit.assumed else habit.grade,
                "source": habit.source,
            }
            for habit in self.habits
        ]


def _told(schedule: Retry) -> str:
    """Say when something is tried again, in minutes."""
    return ", ".join(f"{delay / 60:.3g}" for delay in schedule.delays) + " min" if schedule.delays else "none"


@cache
def _load(name: str) -> Tool:
    if name not in tools():
        raise ValueError(f"unknown tool {name!r} (there are: {', '.join(tools())})")
    path = _folder() / f"{name}.toml"
    tool = check(Tool, read_toml(path), path.name)
    if tool.name != name:
        raise ValueError(f"{path.name}: name must be {name!r}, got {tool.name!r}")
    return tool


def tools() -> tuple[str, ...]:
    """Return the names of the tools whose facts come with sendlab.

    Returns
    -------
    tuple of str
        In alphabetical order.

    Examples
    --------
    >>> "postfix" in tools()
    True
    """
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def _folder() -> Path:
    return Path(str(files("simlib") / "tools"))
