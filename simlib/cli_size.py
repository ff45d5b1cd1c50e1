"""`sendlab size`: which channels are done by a deadline, and what to type into the tool."""

import argparse
import datetime as dt
import json
from pathlib import Path
from typing import Any

from simlib import argument
from simlib.progress import progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `size` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["size", "--senders", "25", "--per-sender", "40"]).confidence
    0.95
    """
    size = commands.add_parser(
        "size",
        help="which channels are done by a deadline, and what to type into the tool",
        description="Says for each channel how probable it is that everything is accepted by the deadline, how many "
        "mailboxes or IPs are enough, how much it takes, what to type into the tool, who has to do what, and whether "
        "the answer depends on a fact that sources disagree about. Exit 1 if no channel reaches the confidence. "
        "All messages are offered at the start, as a campaign does.",
        epilog="A price file (TOML) has `currency`, `days_a_month` and a table [channels.NAME] each, with any of "
        "per_mailbox, per_ip, per_month (a month each), per_thousand (messages) and once. "
        "example: sendlab size --senders 25 --per-sender 40 --group-email 1000 --have office365=25,sparkpost",
    )
    size.add_argument("scenario", metavar="SCENARIO", nargs="?", type=Path, help="a scenario file instead of numbers")
    size.add_argument("--senders", type=argument.count, metavar="N", help="people who send")
    size.add_argument("--per-sender", type=argument.count, metavar="M", help="messages each")
    size.add_argument(
        "--group-email", type=argument.whole, metavar="K", help="people who get a group e-mail by one of them (0)"
    )
    size.add_argument("--start", type=_clock, metavar="HH:MM", help="when sending starts (09:00)")
    size.add_argument("--deadline", type=_clock, metavar="HH:MM", help="when all has to be accepted (17:30)")
    size.add_argument(
        "--confidence", type=_confidence, default=0.95, metavar="P", help="how sure that has to be (0.95)"
    )
    size.add_argument("--have", type=_have, metavar="LIST", help="what the team has: office365=25,sparkpost")
    size.add_argument("--tool", metavar="NAME", help="the application that sends (sales-connect)")
    size.add_argument("--prices", type=Path, metavar="FILE", help="what channels cost (TOML, see below)")
    size.add_argument("--lang", choices=("en", "ja"), default="en", help="language of the answer and the card (en)")
    size.add_argument(
        "--card", type=argument.file, metavar="FILE.html", help="write the answer as one page for the team"
    )
    size.add_argument("--seed", type=argument.whole, default=1, metavar="N", help="same seed, same answer (1)")
    argument.facts_options(size)
    size.set_defaults(run=_size)


def _clock(text: str) -> str:
    try:
        dt.time.fromisoformat(text if len(text) == len("09:00") and ":" in text else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time like '17:30', got {text!r}") from None
    return text


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and less than 1, like 0.95, got {text!r}")
    return value


def _have(text: str) -> dict[str, int | None]:
    """Read ``office365=25,sparkpost``: what the team has, and how many mailboxes or IPs of it."""
    found: dict[str, int | None] = {}
    for part in text.split(","):
        name, equals, count = part.strip().partition("=")
        if not name or name in found:
            what = "names something twice" if name else "has an empty entry"
            raise argparse.ArgumentTypeError(f"{what}: must look like office365=25,sparkpost, got {text!r}")
        found[name] = argument.count(count) if equals else None
    return found


def _size(options: argparse.Namespace) -> int:
    from simlib.advice import advise
    from simlib.prices import Prices
    from simlib.sentences import Sentences
    from simlib.words import Words

    candidates, question = _question(options)
    words = Words(options.lang)
    prices = Prices.load(options.prices) if options.prices else None
    with progress("channels", options.json) as tell:
        advice = advise(candidates, options.confidence, options.seed, options.as_of, prices, question, tell)
    if options.json:
        print(json.dumps(advice.json(), allow_nan=False))
    else:
        print("\n".join(Sentences(advice, words).lines()), flush=True)  # the card takes as long again
    if options.card:
        from simlib.card import page

        with progress("places of the card's grid", options.json) as tell:
            options.card.write_text(page(advice, options.lang, tell), encoding="utf-8")
        if not options.json:
            print(f"\n{words.say('written', path=options.card)}")
    return 0 if advice.recommended else 1


def _question(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the channels in question, from the numbers or the scenario, and what was asked."""
    from simlib.question import from_scenario, from_team
    from simlib.scenario import Scenario

    numbers = ("senders", "per_sender", "group_email", "start", "have", "tool")
    given = [f"--{name.replace('_', '-')}" for name in numbers if getattr(options, name) is not None]
    if options.scenario is not None:
        if given:
            raise ValueError(f"size: a scenario says by itself what {given[0]} says: give one or the other")
        scenario = Scenario.load(options.scenario).replace(readings=dict(options.reading))
        candidates = from_scenario(scenario, options.deadline)
        deadline = candidates[0].scenario.deadline
        return candidates, {"scenario": scenario.name, "deadline": f"{deadline:%H:%M}"}
    if options.senders is None or options.per_sender is None:
        raise ValueError("size: needs --senders and --per-sender, or a scenario file (see sendlab size --help)")
    question: dict[str, Any] = {
        "senders": options.senders,
        "per_sender": options.per_sender,
        "group_email": options.group_email or 0,
        "start": options.start or "09:00",
        "deadline": options.deadline or "17:30",
        "have": options.have,
        "tool": options.tool or "sales-connect",
    }
    if question["deadline"] <= question["start"]:
        raise ValueError(f"deadline must come after the start at {question['start']}, got {question['deadline']}")
    return from_team(**question, readings=dict(options.reading)), question
