"""An option: a channel that a team may have, how the simulation builds it, and what it takes to set one up.

They stand in ``simlib/options.toml``; every other submission provider of the facts is an option without steps.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from simlib.facts import Fact, Frozen, check, read_toml
from simlib.provider import Provider
from simlib.provider import names as providers

__all__ = ["Option", "Step", "again", "channels", "options", "timing"]


class Step(Frozen):
    """What somebody has to do for a channel, in each language.

    Parameters
    ----------
    who : str
        ``everyone`` or ``administrator``.
    en, ja : str
        What.
    """

    who: Literal["everyone", "administrator"]
    en: str
    ja: str


class Strangers(Frozen):
    """Who else uses a pool, as assumed.

    Parameters
    ----------
    senders : int
        How many people send.
    per_sender : int
        Messages each a day.
    """

    senders: int = Field(ge=1)
    per_sender: int = Field(ge=1)


class Option(Fact):
    """A channel that a team may have.

    Parameters
    ----------
    name : str
        What it is called on the command line.
    title, dkim : dict
        By language: what people call it, and who sees to DKIM and SPF.
    channel : dict
        Keys of a channel in a scenario file: the provider, and what is known or assumed of our side.
    limits : dict
        Assumed amounts, as a scenario's [limits].
    strangers : Strangers or None
        Who else sends over it.
    own_ip : bool
        Whether it sends over an IP of one's own, which has to be warmed up if it is new.
    default : bool
        Whether it is looked at if nobody says what the team has.
    port : str
        Where to connect, empty where there is nothing to enter.
    steps : tuple of Step
        What it takes.

    Examples
    --------
    >>> Option.load("sparkpost").title["en"], Option.load("sparkpost").people(25)
    ('SparkPost', 1)
    """

    name: str
    title: dict[str, str]
    channel: dict[str, Any]
    limits: dict[str, str] = Field(default_factory=dict)
    strangers: Strangers | None = None
    own_ip: bool = False
    default: bool = False
    port: str = ""
    dkim: dict[str, str] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    @classmethod
    def load(cls, name: str) -> "Option":
        """Return the option of that name; a name that nobody knows is a ValueError that lists the known ones.

        Parameters
        ----------
        name : str
            As ``--have`` has it.

        Returns
        -------
        Option
            What is known about setting it up.

        Raises
        ------
        ValueError
            If nobody knows the name; the known ones are listed.
        """
        found = next((option for option in options() if option.name == name), None)
        if found is not None:
            return found
        if name in providers() and Provider.load(name).role == "submission":
            title = Provider.load(name).title
            return cls(name=name, title={"en": title, "ja": title}, channel={"to": name})
        raise ValueError(f"unknown channel {name!r} (there are: {', '.join(channels())})")

    def people(self, team: int) -> int:
        """Return how many people have to do something, in a team of so many.

        Parameters
        ----------
        team : int
            How many people send.

        Returns
        -------
        int
            People.
        """
        return team if any(step.who == "everyone" for step in self.steps) else min(1, len(self.steps))


class _Options(Frozen):
    timing: dict[str, Any]
    again: dict[str, Any]
    options: tuple[Option, ...]


@cache
def _file() -> _Options:
    path = Path(str(files("simlib") / "options.toml"))
    return check(_Options, read_toml(path), path.name)


def options() -> tuple[Option, ...]:
    """Return the options that the file describes.

    Returns
    -------
    tuple of Option
        In the order of the file.

    Examples
    --------
    >>> [option.name for option in options() if option.default]
    ['office365', 'gmail-oauth', 'sparkpost', 'own-postfix']
    """
    return _file().options


def channels() -> tuple[str, ...]:
    """Return the names of the channels that a team may have: the options, and every other provider that takes mail in.

    Returns
    -------
    tuple of str
        What `Option.load` knows.

    Examples
    --------
    >>> {"pool", "office365", "mailgun"} < set(channels()), "gmx-mx" in channels()
    (True, False)
    """
    others = [one for one in providers() if Provider.load(one).role == "submission"]
    return tuple(dict.fromkeys([*(option.name for option in options()), *others]))


def timing() -> dict[str, Any]:
    """Return how long a transaction and a session's beginning take where a question doesn't say: channel keys.

    Returns
    -------
    dict of str to object
        As in a scenario file; both are assumed.

    Examples
    --------
    >>> sorted(timing())
    ['service', 'session_setup']
    """
    return dict(_file().timing)


def again() -> dict[str, Any]:
    """Return how refused mail is tried again where a question asks for that: channel keys.

    Returns
    -------
    dict of str to object
        As in a scenario file.

    Examples
    --------
    >>> sorted(again())
    ['heed_quota', 'retry']
    """
    return dict(_file().again)
