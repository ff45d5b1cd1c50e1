"""The words of each language: ``simlib/words/LANGUAGE.toml``. A language is data; every file has the same keys."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from simlib.facts import read_toml

__all__ = ["Words", "languages"]


class Words:
    """What is said in one language.

    Parameters
    ----------
    language : str
        The name of a file in ``simlib/words``.

    Raises
    ------
    ValueError
        If there is no such file.

    Examples
    --------
    >>> Words("en").say("or_more", count=20000), Words("ja").count("ip", 2)
    ('20,000 or more', 'IP 2 個')
    """

    def __init__(self, language: str) -> None:
        if language not in languages():
            raise ValueError(f"lang must be one of {', '.join(languages())}, got {language!r}")
        self.language = language
        self.table = _table(language)

    def say(self, key: str, **values: object) -> str:
        """Return the sentence of a key, filled in."""
        return self.table[key].format(**values)

    def count(self, thing: str, number: int) -> str:
        """Return so many of something: ``people``, ``mailbox`` or ``ip``."""
        return self.say(f"{thing}_one" if number == 1 else f"{thing}_many", count=number)

    def percent(self, share: float) -> str:
        """Return a share in percent; 0 and 100 only if it is neither less nor more."""
        value = 100 * share
        shown = f"{value:.1f}" if 99 < value < 100 or 0 < value < 1 else f"{value:.0f}"
        return self.say("per_cent", value=shown.removesuffix(".0"))

    def days(self, done: int, runs: int, interval: tuple[float, float] | None) -> str:
        """Return on how many simulated days all was in time, and the probability's interval; None where all are alike.

        Days are what somebody can picture: "100 %" after twenty of them would be said of more than was seen.
        """
        if interval is None:
            return self.say("every_day" if done else "on_no_day")
        low, high = map(self.percent, interval)
        shown = self.say("days", done=done, runs=runs)
        return self.say("between", value=shown, low=low.partition(" ")[0], high=high)


@cache
def _table(language: str) -> dict[str, str]:
    return {key: str(text) for key, text in read_toml(_folder() / f"{language}.toml").items()}


def languages() -> tuple[str, ...]:
    """Return the languages that there are words for.

    Returns
    -------
    tuple of str
        Names of files in ``simlib/words``, in alphabetical order.

    Examples
    --------
    >>> languages()
    ('en', 'ja')
    """
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def _folder() -> Path:
    return Path(str(files("simlib") / "words"))
