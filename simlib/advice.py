"""Advice: which channel is done by the deadline, what to type into the tool, what it takes, and how sure that is."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simlib.estimate import Estimate
from simlib.facts import table_html, table_text
from simlib.option import Option
from simlib.prices import Prices
from simlib.provider import Provider
from simlib.provider import names as shipped
from simlib.question import Candidate, Day
from simlib.sender import Pace
from simlib.sizing import ERROR, MOST_IPS, MOST_UNITS, ODDS, Capacity, Trials, capacity, decide, smallest
from simlib.warmup import warmups

__all__ = ["Advice", "Answer", "Change", "Need", "Reading", "advise", "clock"]

ALIKE = 2
"""Runs that have to be the same, message by message, for another reading to be said to change nothing."""
LEAST_RUNS = 20
"""Runs of each channel, even if fewer decide: as many days as the app simulates, so that both say the same."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What another reading of a disputed limit would change.

    Parameters
    ----------
    limit, name : str
        The limit's id, and the reading's name.
    reached : bool
        Whether the channel is then done by the deadline, with the confidence.
    lost : int
        Messages refused then, in the first run.
    lost_as_is : int or None
        The same with the pace that the tool comes with; None where nothing else is to be typed.
    """

    limit: str
    name: str
    reached: bool
    lost: int
    lost_as_is: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """Something in the facts that changes on a known date: what the provider then says, and whether it hits this use.

    Parameters
    ----------
    on : date
        When.
    says : str
        The new sentence, or the limit that comes or goes.
    hits : bool
        Whether the channel, as it logs in now, is refused from then on.
    """

    on: dt.date
    says: str
    hits: bool


@dataclass(frozen=True, slots=True)
class Need:
    """How much of a channel is enough.

    Parameters
    ----------
    unit : str
        ``mailbox``, ``ip``, or the id of the limit whose amount has to be as large as that.
    count : int or None
        The smallest number that reaches the confidence; None if none does.
    """

    unit: str
    count: int | None


@dataclass(frozen=True)
class Answer:
    """What there is to say about one channel. Counts are messages; times are seconds since second 0.

    Parameters
    ----------
    candidate : Candidate
        The channel as simulated, the setting typed in.
    trials : Trials
        How often it was done by the deadline.
    days : tuple of Day
        Those runs.
    setting : Pace or None
        What to type into the tool; None where nothing is to be typed.
    typed_into, failed_into, tool : str
        The setting's name in the tool; where mail that failed is found; the tool.
    cap : int or None
        What one credential may send a day at most, under every reading.
    as_is : Day or None
        The first run with the pace that the tool comes with, where another one is to be typed.
    as_is_pace : Pace or None
        That pace.
    need : Need
        How much is enough.
    with_oauth : bool or None
        Whether it would be done if logins were by OAuth; None where passwords aren't what is refused.
    largest : Capacity
        How much it takes.
    readings : tuple of Reading
        Where sources disagree.
    changes : tuple of Change
        What is known to change after the date of the facts.
    review_by : date or None
        When the first of the facts used is to be looked at again.
    cost, once : float or None
        A month, and to begin with; None without prices.
    as_of : date
        The date whose facts applied.
    """

    candidate: Candidate
    trials: Trials
    days: tuple[Day, ...]
    setting: Pace | None
    typed_into: str
    failed_into: str
    tool: str
    cap: int | None
    as_is: Day | None
    as_is_pace: Pace | None
    need: Need
    with_oauth: bool | None
    largest: Capacity
    readings: tuple[Reading, ...]
    changes: tuple[Change, ...]
    review_by: dt.date | None
    cost: float | None
    once: float | None
    as_of: dt.date

    def __repr__(self) -> str:
        return (
            f"<Answer {self.name!r}: in time on {self.trials.done} of {self.trials.runs} days, to type {self.setting}>"
        )

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.candidate.name

    @property
    def option(self) -> Option | None:
        """What is known about setting it up."""
        return self.candidate.option

    @property
    def shareable(self) -> bool:
        """Whether one credential serves the whole team."""
        return all(lane.provider.credential != "account" for lane in self.candidate.lanes(self.as_of))

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Who answers at the other end."""
        return tuple({lane.provider.name: lane.provider for lane in self.candidate.lanes(self.as_of)}.values())

    @property
    def offered(self) -> int:
        """What was offered by the deadline, on average."""
        return round(sum(day.offered for day in self.days) / len(self.days))

    @property
    def lost(self) -> float:
        """What was refused or given up, on average: it has to be sent again by hand."""
        return sum(day.lost for day in self.days) / len(self.days)

    @property
    def finished(self) -> Estimate:
        """When the last message was accepted, over the runs in which each of them was."""
        return Estimate.of([day.finished_at for day in self.days if day.finished_at < math.inf])

    @property
    def last(self) -> float:
        """When the slowest run was over, inf if mail was lost in one."""
        return max(day.finished_at for day in self.days)

    @property
    def flips(self) -> bool:
        """Whether another reading changes the answer."""
        return any(reading.reached != self.trials.reached for reading in self.readings)

    @cached_property
    def binds(self) -> tuple[str, float | None, float]:
        """What holds the mail back: a limit or a cause, since when, and the messages lost or its share of the delay."""
        throttled = _sums([day.throttled for day in self.days])
        if self.lost:
            others = _sums([day.others for day in self.days])
            found = throttled if any(throttled.values()) else others
            name = max(found, key=lambda one: found[one]) if found else ""
            return name, self.days[0].first.get(name), found.get(name, 0.0) / len(self.days)
        causes = _sums([day.causes for day in self.days])
        total = sum(causes.values())
        if not total:
            return "", None, 0.0
        name = max(causes, key=lambda one: causes[one])
        return name, self.days[0].first.get(name), causes[name] / total

    def warmups(self) -> list[tuple[str, int | None]]:
        """Return on which day a new IP may carry this volume by each published schedule; empty without an own IP.

        Returns
        -------
        list of (str, int or None)
            The schedule's title, and the day, counted from 1; None where it never gets there.
        """
        if self.option is None or not self.option.own_ip:
            return []
        ips = self.candidate.units if self.candidate.unit == "ip" else 1
        return [(one.title, one.days(math.ceil(self.offered / ips))) for one in warmups()]

    def rests_on(self) -> list[str]:
        """Return the ids of the assumed facts and figures behind the answer.

        Returns
        -------
        list of str
            A limit's id, or a channel and what of it is assumed.
        """
        return [one["id"] for one in self.candidate.scenario.rests_on([self.name], self.as_of)]


@dataclass(frozen=True)
class Advice:
    """The answers about all channels, and what follows.

    Parameters
    ----------
    answers : tuple of Answer
        One a channel, in the order asked.
    confidence : float
        What the probability has to reach.
    as_of : date
        The date whose facts applied.
    seed : int
        Of the random streams.
    question : dict
        What was asked, as JSON has it.
    currency : str
        Of the costs, empty without prices.
    """

    answers: tuple[Answer, ...]
    confidence: float
    as_of: dt.date
    seed: int
    question: dict[str, Any]
    currency: str = ""

    @property
    def recommended(self) -> Answer | None:
        """The channel to take: one that reaches the confidence, of these the one that is least trouble.

        First those that no disputed reading turns, then those that need no IP of one's own, that no announced change
        hits, that the fewest people have to set up, that are done the soonest. Channels that end at mailbox providers
        are another claim: one is recommended only if no channel ends at a provider's door.
        """
        reached = [answer for answer in self.answers if answer.trials.reached]
        doors = [answer for answer in self.answers if answer.candidate.role == "submission"]
        return min((a for a in reached if not doors or a in doors), key=self._trouble, default=None)

    @property
    def ranked(self) -> tuple[Answer, ...]:
        """The channels, that of least trouble first, whether they reach the confidence or not."""
        return tuple(sorted(self.answers, key=self._trouble))

    def _trouble(self, answer: Answer) -> tuple[bool, bool, bool, int, float]:
        # where nothing is known about setting a channel up, everyone has to where logins can't be shared
        units = answer.candidate.units
        people = (1 if answer.shareable else units) if answer.option is None else answer.option.people(units)
        own_ip = answer.option is not None and answer.option.own_ip
        return answer.flips, own_ip, any(change.hits for change in answer.changes), people, answer.last

    def __repr__(self) -> str:
        return f"<Advice: {self._verdict()}; {len(self.answers)} channels, seed {self.seed}, facts as of {self.as_of}>"

    def __str__(self) -> str:
        return table_text(self._rows(), self._verdict())

    def _repr_html_(self) -> str:
        return table_html(self._rows(), self._verdict())

    def _verdict(self) -> str:
        return f"take {self.recommended.name}" if self.recommended else "none is in time"

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "channel": answer.name,
                "in time": "yes" if answer.trials.reached else "no",
                "days": f"{answer.trials.done} of {answer.trials.runs}",
                "probability": "{:.0%} to {:.0%}".format(*answer.trials.interval),
                "accepted by": clock(answer.candidate, answer.last) or "never",
                "enough": f"{answer.need.count} {answer.need.unit}" if answer.need.count else "–",
                "takes at most": f"{answer.largest.messages:,}{' or more' if answer.largest.or_more else ''}",
                "fails": f"{answer.lost:,.0f}",
                "to type": answer.setting or "–",
            }
            for answer in self.answers
        ]

    def json(self) -> dict[str, Any]:
        """Return the document of `size --json`.

        Returns
        -------
        dict
            Times in seconds since the start and as times of day, counts in messages.
        """
        return {
            **self.question,
            "as_of": self.as_of.isoformat(),
            "seed": self.seed,
            "confidence": self.confidence,
            "recommended": None if self.recommended is None else self.recommended.name,
            "channels": {answer.name: _document(answer, self.currency) for answer in self.answers},
            "rests_on": list(dict.fromkeys(id_ for answer in self.answers for id_ in answer.rests_on())),
            "readings": [
                {
                    "limit": reading.limit,
                    "reading": reading.name,
                    "channel": answer.name,
                    "flips": reading.reached != answer.trials.reached,
                    "failed": reading.lost,
                    "failed_as_is": reading.lost_as_is,
                }
                for answer in self.answers
                for reading in answer.readings
            ],
            "procedure": {
                "probability": "Wald's sequential probability ratio test, common random numbers",
                "search": "bisection, bracketed by the first run",
                "indifference_odds": ODDS,
                "error": ERROR,
            },
        }


def advise(
    candidates: Sequence[Candidate],
    confidence: float = 0.95,
    seed: int = 1,
    as_of: dt.date | None = None,
    prices: Prices | None = None,
    question: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Advice:
    """Find out which channels are done by the deadline, and what else there is to know about each.

    Parameters
    ----------
    candidates : sequence of Candidate
        The channels.
    confidence : float
        With what probability everything has to be done.
    seed : int
        Same question and seed, same answer.
    as_of : date, optional
        The date whose facts apply; by default the newest that the candidates' scenarios name.
    prices : Prices, optional
        What the channels cost.
    question : dict, optional
        What was asked, for the document.
    progress : callable, optional
        Told how many channels are done, of how many.

    Returns
    -------
    Advice
        An answer for each channel, in the order given, and which of them to take.

    Raises
    ------
    ValueError
        If the confidence isn't between 0 and 1.

    Examples
    --------
    >>> from simlib.question import from_team
    >>> advice = advise(from_team(2, 10, have={"office365": None}))
    >>> advice.recommended.name, str(advice.answers[0].setting)
    ('office365', '5 every 12 s')
    """
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence must be more than 0 and less than 1 (no number of runs is sure), got {confidence:g}"
        )
    date = as_of or max(candidate.scenario.date for candidate in candidates)
    answers = []
    for number, candidate in enumerate(candidates, 1):
        answers.append(_answer(candidate, confidence, seed, date, prices))
        if progress is not None:
            progress(number, len(candidates))
    currency = prices.currency if prices else ""
    return Advice(tuple(answers), confidence, date, seed, dict(question or {}), currency)


def _answer(given: Candidate, confidence: float, seed: int, as_of: dt.date, prices: Prices | None) -> Answer:
    habit = given.habit()
    lane = given.lanes(as_of)[0]
    settable = habit is not None and bool(habit.typed_into) and lane.channel.pace is None
    setting = given.setting(as_of) if settable else None
    candidate = given
    if setting is not None:
        candidate = given.change({"pace": {"batch": setting.batch, "wait": f"{setting.wait:g}s"}})
    random = bool(candidate.random())
    days: list[Day] = []

    trials = decide(_runs(candidate, seed, as_of, days), confidence, random, LEAST_RUNS)
    as_is = given.day(seed, 0, as_of) if setting is not None else None
    mailboxes = candidate.units if candidate.unit == "mailbox" else 0
    ips = candidate.units if candidate.unit == "ip" else 1
    offered = days[0].offered
    with_oauth = None
    if any(name.endswith(" at AUTH") for name in days[0].others):
        other = candidate.change({"auth": "oauth"})
        with_oauth = decide(_runs(other, seed, as_of, []), confidence, random).reached
    return Answer(
        candidate=candidate,
        trials=trials,
        days=tuple(days),
        setting=setting,
        typed_into=habit.typed_into if habit is not None and setting is not None else "",
        failed_into=habit.failed_into if habit is not None else "",
        tool=lane.channel.tool or "",
        cap=candidate.cap(as_of),
        as_is=as_is,
        as_is_pace=lane.pace if setting is not None else None,
        need=_need(candidate, trials, days, confidence, seed, as_of)
        if with_oauth is None
        else Need(candidate.unit, None),
        with_oauth=with_oauth,
        largest=capacity(candidate, confidence, seed, as_of),
        readings=tuple(
            _readings(given if setting is not None else None, candidate, trials, days, confidence, seed, as_of)
        ),
        changes=tuple(_changes(candidate, as_of)),
        review_by=min(
            (limit.review_by for one in given.lanes(as_of) for limit in one.provider.limits if limit.review_by),
            default=None,
        ),
        cost=prices.monthly(given.name, offered, mailboxes, ips) if prices else None,
        once=prices.channels[given.name].once if prices and given.name in prices.channels else None,
        as_of=as_of,
    )


def _need(
    candidate: Candidate, trials: Trials, days: Sequence[Day], confidence: float, seed: int, as_of: dt.date
) -> Need:
    """Search how many mailboxes or IPs are enough, or else how large the limit has to be that refuses mail."""
    random = bool(candidate.random())
    if candidate.unit:
        tried: dict[int, Callable[[int], bool]] = {}

        def done(units: int, run: int) -> bool:
            if units not in tried:
                tried[units] = _runs(candidate.over(units), seed, as_of, [])
            return tried[units](run)

        return Need(
            candidate.unit, smallest(done, confidence, random, MOST_IPS if candidate.unit == "ip" else MOST_UNITS)
        )
    throttled = {name: count for name, count in days[0].throttled.items() if count}
    if trials.reached or not days[0].lost or not throttled:
        return Need("", None)
    # a quota of the whole team: the one amount that can be asked for is what is sent
    limit = max(throttled, key=lambda name: throttled[name])
    amount = candidate.scenario.provider(limit.partition("/")[0], as_of).limit(limit).limit
    if amount is None or amount.period is None:
        return Need("", None)
    recipients = max(tenant.recipients for tenant in candidate.scenario.tenants if not tenant.neighbour)
    enough = days[0].offered * recipients
    period = str(amount).partition("/")[2]
    larger = candidate.set({limit: f"{enough}/{period}"})
    reached = decide(lambda run: larger.day(seed, run, as_of).done, confidence, random).reached
    return Need(limit, enough if reached else None)


def _readings(
    as_is: Candidate | None,
    candidate: Candidate,
    trials: Trials,
    days: Sequence[Day],
    confidence: float,
    seed: int,
    as_of: dt.date,
) -> list[Reading]:
    """Try every other reading of the channel's limits: the same runs show that one changes nothing."""
    found = []
    for limit, name in candidate.scenario.readings_of(candidate.name, as_of):
        other = candidate.read_as(limit, name)
        seen = [other.day(seed, run, as_of) for run in range(min(ALIKE, len(days)))]
        reached = trials.reached
        if any(day.print_ != days[run].print_ for run, day in enumerate(seen)):
            reached = decide(_runs(other, seed, as_of, seen), confidence, trials.random).reached
        lost_as_is = as_is.read_as(limit, name).day(seed, 0, as_of).lost if as_is is not None else None
        found.append(Reading(limit, name, reached, seen[0].lost, lost_as_is))
    return found


def _runs(candidate: Candidate, seed: int, as_of: dt.date, days: list[Day]) -> Callable[[int], bool]:
    """Return a function: whether a run is done by the deadline. Each is simulated once and kept among the days."""

    def done(run: int) -> bool:
        while run >= len(days):
            days.append(candidate.day(seed, len(days), as_of))
        return days[run].done

    return done


def _changes(candidate: Candidate, as_of: dt.date) -> list[Change]:
    """List what is known to change after a date in the facts about the channel's providers."""
    found = []
    for lane in candidate.lanes(as_of):
        if lane.provider.name not in shipped() or lane.provider.name in candidate.scenario.providers:
            continue
        for sentence in Provider.load(lane.provider.name).replies:
            if sentence.since is not None and sentence.since > as_of:
                hits = sentence.when == "password_refused" and not lane.oauth
                said = " ".join(part for part in (str(sentence.code), sentence.enhanced, sentence.text) if part)
                found.append(Change(sentence.since, said, hits))
        for limit in Provider.load(lane.provider.name).limits:
            found += [
                Change(date, f"{lane.provider.name}/{limit.id} {limit.limit or 'off'} {what}", hits=False)
                for date, what in ((limit.since, "begins"), (limit.until, "ends"))
                if date is not None and date > as_of
            ]
    return found


def _sums(dicts: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in dicts for name in one)
    return {name: sum(one.get(name, 0.0) for one in dicts) for name in names}


def clock(candidate: Candidate, at: float | None, end: bool = True) -> str | None:
    """Return a moment as the time of day, with the days that have passed: ``"09:41"``, ``"08:10+1"``; None if never.

    Within a minute it is written as the minute's end (whoever looks at 09:42 finds it done), or as its beginning.

    Parameters
    ----------
    candidate : Candidate
        Whose day begins at its start.
    at : float or None
        Seconds since second 0; None or inf for never.
    end : bool, optional
        Whether a minute that has begun counts as over.

    Returns
    -------
    str or None
        None for never.

    Examples
    --------
    >>> from simlib.question import from_team
    >>> candidate = from_team(1, 1, have={"sparkpost": None})[0]
    >>> clock(candidate, 2461.0), clock(candidate, 2461.0, end=False), clock(candidate, 86400.0)
    ('09:42', '09:41', '09:00+1')
    """
    if at is None or not math.isfinite(at):
        return None
    minute_of = (candidate.scenario.day.start + at) / 60
    minutes = math.ceil(round(minute_of, 4)) if end else math.floor(round(minute_of, 4))
    days, minute = divmod(minutes, 24 * 60)
    return f"{minute // 60:02}:{minute % 60:02}" + (f"+{days}" if days else "")


def _document(answer: Answer, currency: str) -> dict[str, Any]:
    low, high = answer.trials.interval
    finished = answer.finished
    name, at, amount = answer.binds
    setting = answer.setting
    return {
        "ends_at": ", ".join(provider.name for provider in answer.providers),
        "role": answer.candidate.role,
        "unit": answer.candidate.unit or None,
        "have": answer.candidate.units if answer.candidate.unit else None,
        "done": {"probability": answer.trials.probability, "low": low, "high": high, "random": answer.trials.random},
        "runs": answer.trials.runs,
        "reached": answer.trials.reached,
        "offered": answer.offered,
        "finished_at": {**finished.json(), "clock": clock(answer.candidate, answer.last)},
        "with_oauth": answer.with_oauth,
        "needed": {"unit": answer.need.unit or None, "count": answer.need.count},
        "largest": {"messages": answer.largest.messages, "or_more": answer.largest.or_more},
        "setting": None
        if setting is None
        else {
            "batch": setting.batch,
            "wait_s": setting.wait,
            "per_minute": setting.batch / setting.wait * 60,
            "into": answer.typed_into,
        },
        "at_most_a_day": answer.cap,
        "failed": {"messages": answer.lost, "into": answer.failed_into or None},
        "as_is": None
        if answer.as_is is None
        else {"pace": str(answer.as_is_pace), "held": answer.as_is.held, "failed": answer.as_is.lost},
        "bound_by": {"cause": name or None, "from": clock(answer.candidate, at, end=False), "amount": amount},
        "shareable": answer.shareable,
        "steps": [] if answer.option is None else [step.model_dump() for step in answer.option.steps],
        "warmup_days": dict(answer.warmups()),
        "cost": None if answer.cost is None else {"monthly": answer.cost, "once": answer.once, "currency": currency},
        "review_by": None if answer.review_by is None else answer.review_by.isoformat(),
        "changes": [{"on": c.on.isoformat(), "says": c.says, "hits": c.hits} for c in answer.changes],
        "flips": answer.flips,
        "rests_on": answer.rests_on(),
    }
