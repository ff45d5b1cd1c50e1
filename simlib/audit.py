"""The audit: how a mailer behaves when things go wrong, judged from the server's ledger.

A mailer is sent through trials, in each of which one thing goes wrong. Each rule is a function of what was seen there.
Rule 1: nothing here does I/O or knows a clock. Times are those of the ledger, in seconds of the provider's clock.
Rule 2: what a run couldn't test is "not tested", with the reason. A mailer that never retries isn't blamed for how.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

from simlib.pacing import fastest
from simlib.provider import STAGES, Limit, Provider
from simlib.windows import INSTANT

__all__ = ["RULES", "Run", "Seen", "Setting", "Trial", "Verdict", "judge", "safe_setting", "trials"]

Line = Mapping[str, Any]
Outcome = Literal["passed", "failed", "not tested"]

LONG_ENOUGH: Final = 300.0
"""Seconds before a failed attempt may be made again: Postfix's minimal_backoff_time (postconf(5)), whose schedule the
world's mail servers are used to. RFC 5321 §4.5.4.1 asks for at least 30 minutes in general, and lets those who know
more be quicker."""
ROUNDING: Final = 2
"""Seconds of a mailer's own clock by which its waits may be short: Postfix rounds down when a message is due, and takes
what is due within the next second (qmgr_active.c)."""
WRONG_FOR: Final = 1000.0
"""Seconds for which a thing goes wrong in a trial: time for two retries after `LONG_ENOUGH`, and then it is over."""
DEFERRED_FOR: Final = 2000.0
"""The same where it is looked at how waits go on: three retries of a schedule that doubles from there."""
LASTS: Final = 7200.0
"""Seconds that a trial may take: a schedule of 30 minutes (RFC 5321 §4.5.4.1) then still has its turns."""
SLOW: Final = 120.0
"""Seconds that a slow reply takes: a fifth of the 10 minutes that a client waits for it (RFC 5321 §4.5.3.2.6)."""
HERD: Final = 3
"""Messages that return at one moment, again and again, before that is called lockstep: two may do so by chance."""
SHOWN: Final = 6  # ledger lines that a verdict shows
HALF_AN_HOUR: Final = 1800.0  # RFC 5321 §4.5.4.1: until then a retry is to be expected
HOUR: Final = 3600.0
TRANSACTION: Final = 1.0  # seconds a message may take at most for the safe setting, as in `size`
QUOTA: Final = "1/h"
UNITS: Final = ("recipients", "unique_recipients", "external_recipients")

RULES: Final = {
    "limits": "kept to the limits",
    "backoff": "backed off after a 4yz, long enough and not in lockstep",
    "permanent": "did not retry after a 5yz",
    "duplicate": "sent no duplicate after a lost reply",
    "storm": "no storm of reconnects",
    "421": "honoured 421",
    "size": "honoured SIZE",
    "token": "refreshed its token",
    "quota": "paused at a quota's reply instead of bouncing people",
    "starttls": "did not skip STARTTLS",
}
"""What is judged, by id, in the order in which it is told."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A run of the mailer in which one thing goes wrong, or nothing.

    Parameters
    ----------
    name, happens : str
        Its name, and what happens in it.
    rules : tuple of str
        Which rules it tests.
    faults : tuple of dict
        What goes wrong, as tables of a faults file.
    limits : dict of str to object
        Amounts that differ from the provider's own, by limit.
    stale : bool
        Whether the mailer begins with an access token that isn't good any more.
    """

    name: str
    happens: str
    rules: tuple[str, ...]
    faults: tuple[Mapping[str, object], ...] = ()
    limits: Mapping[str, object] = field(default_factory=dict)
    stale: bool = False


def _refused(reply: str, seconds: float | None = None) -> tuple[Mapping[str, object], ...]:
    refusal = {"kind": "refuse", "at": "EOD", "reply": f"{reply} sendlab: the audit refuses it"}
    return ({**refusal, "until": f"{seconds:g}s"} if seconds else refusal,)


def trials(provider: Provider, rules: Sequence[str] = tuple(RULES), time_scale: float = 1.0) -> tuple[Trial, ...]:
    """List the trials that some rules need at a provider; what it can't show is left out.

    Parameters
    ----------
    provider : Provider
        The facts, with readings and date already chosen.
    rules : sequence of str
        Ids of `RULES`.
    time_scale : float
        Seconds of the provider in one of the mailer's. If the provider is hurried the mailer's timeouts are not, and
        there is no trial of its patience.

    Returns
    -------
    tuple of Trial
        Each of them once, though several rules look at it.

    Examples
    --------
    >>> [trial.name for trial in trials(Provider.load("office365"), ["limits", "backoff", "quota"])]
    ['plain', 'deferred', 'quota']
    """
    wrong = f"{WRONG_FOR:g}s"
    found = [
        # the others are compared with what happens when all is well
        Trial("plain", "nothing goes wrong", tuple(RULES)),
        Trial(
            "deferred",
            f"every message is deferred for {DEFERRED_FOR:g} s (451)",
            ("backoff", "421", "quota"),
            _refused("451 4.3.0", DEFERRED_FOR),
        ),
        Trial("rejected", "every message is refused for good (550)", ("permanent",), _refused("550 5.1.1")),
        Trial(
            "lost",
            f"every message is accepted, and for {WRONG_FOR:g} s the connection ends without a reply",
            ("duplicate",),
            ({"kind": "lose_reply", "until": wrong},),
        ),
        Trial(
            "slow",
            f"the reply to the first message comes {SLOW:g} s late",
            ("duplicate",),
            # whoever sends one after the other meets it once
            ({"kind": "stall", "at": "EOD", "delay": f"{SLOW:g}s", "until": f"{SLOW:g}s"},),
        ),
        Trial(
            "dropped",
            f"for {WRONG_FOR:g} s every connection ends before the banner",
            ("storm",),
            ({"kind": "drop_before", "at": "CONNECT", "until": wrong},),
        ),
        Trial(
            "closing",
            f"for {WRONG_FOR:g} s every message is answered by 421, and the connection is closed",
            ("421",),
            _refused("421 4.3.2", WRONG_FOR),
        ),
    ]
    size = size_of(provider)
    if size is not None:
        found.append(Trial("oversize", "EHLO says that a message may have 1 byte", ("size",), limits={size.id: 1}))
    if {"XOAUTH2", "OAUTHBEARER"} & set(provider.auth):
        found.append(Trial("stale", "the access token isn't good any more", ("token",), stale=True))
    quota = quota_of(provider)
    if quota is not None:
        happens = f"{quota.id} is one an hour"
        found.append(Trial("quota", happens, ("quota",), limits={quota.id: QUOTA}))
    return tuple(
        trial for trial in found if set(trial.rules) & set(rules) and (trial.name != "slow" or time_scale == 1)
    )


def size_of(provider: Provider) -> Limit | None:
    """Return the limit on a message's size that EHLO announces; None if there is none."""
    when: Any = "ehlo_tls" if provider.tls == "required" else "ehlo"
    announced = not provider.speaks_of(when) or "\nSIZE" in provider.says(when, "EHLO").text
    of_size = (one for one in provider.limits if (one.count, one.per) == ("bytes", "message") and one.limit)
    return next(of_size, None) if announced else None


def quota_of(provider: Provider) -> Limit | None:
    """Return the limit whose reply is a quota's: on messages in some time; rather one that refuses with a 5yz."""
    found = [
        one
        for one in provider.limits
        if one.count in ("messages", *UNITS)
        and one.per in ("account", "sender", "tenant", "domain", "ip")
        and one.window is not None
        and not one.holds
        and not one.only
        and STAGES.index(one.at) >= STAGES.index("MAIL")
    ]
    return next((one for one in found if one.temporary), found[0] if found else None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in a trial.

    Parameters
    ----------
    lines : tuple of dict
        The server's ledger (DESIGN §8).
    sessions : int
        How many connections were made.
    """

    lines: tuple[Line, ...] = ()
    sessions: int = 0


@dataclass(frozen=True)
class Run:
    """A mailer's way through the trials.

    Parameters
    ----------
    provider : Provider
        Whom it sent to.
    trials : dict of str to Seen
        What was seen, by the trial's name; those that weren't run are missing.
    second : float
        How long a second of the mailer's own clock is on the provider's; 0: the mailer's clock is the provider's. Many
        mailers know whole seconds only, so that their waits may be a little shorter than they mean.
    """

    provider: Provider
    trials: Mapping[str, Seen]
    second: float = 0.0

    @property
    def patience(self) -> float:
        """The shortest wait before a retry that is long enough, in seconds, on the mailer's own clock."""
        return LONG_ENOUGH - ROUNDING * self.second - INSTANT

    def lines(self, trial: str) -> tuple[Line, ...]:
        """Return the ledger of a trial; empty if it wasn't run."""
        return self.trials.get(trial, Seen()).lines

    @property
    def messages(self) -> int:
        """How many messages the mailer has, as far as any trial showed."""
        accepted = [line for line in self.lines("plain") if line["stage"] == "EOD" and line["code"] < 300]
        return max((len(accepted), *(len(_by_message(seen.lines)) for seen in self.trials.values())))

    @property
    def retries(self) -> bool:
        """Whether it is known to try again what was deferred."""
        return any(len(tries) > 1 for tries in _by_message(self.lines("deferred")).values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about a rule.

    Parameters
    ----------
    rule : str
        Its id, one of `RULES`.
    outcome : str
        ``passed``, ``failed`` or ``not tested``.
    says : str
        Why, in a sentence.
    lines : tuple of dict
        The ledger lines that show it; the first few.
    """

    rule: str
    outcome: Outcome
    says: str
    lines: tuple[Line, ...] = ()


def judge(run: Run, rules: Sequence[str] = tuple(RULES)) -> tuple[Verdict, ...]:
    """Return a verdict for each rule.

    Parameters
    ----------
    run : Run
        What the trials left in the ledgers.
    rules : sequence of str, optional
        Ids of `RULES`.

    Returns
    -------
    tuple of Verdict
        In the order of `rules`.

    Examples
    --------
    >>> line = {"time": 0.0, "stage": "EOD", "code": 550, "message_id": "us-7", "limit": "", "tls": True}
    >>> again = line | {"time": 60.0}
    >>> run = Run(Provider.load("office365"), {"rejected": Seen((line, again), 2)})
    >>> judge(run, ["permanent"])[0].says
    '1 of 1 message refused for good came again, the first after 60 s'
    """
    return tuple(_JUDGES[rule](run) for rule in rules)


# What the rules have in common


def _by_message(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return each message's tries, as far as it was transferred: only then its id is known."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["stage"] == "EOD" and line["message_id"]:
            found[line["message_id"]].append(line)
    return found


def _retries(lines: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Return each failed try of a message with the next one, those with the shortest waits first."""
    found = [pair for tries in _by_message(lines).values() for pair in pairwise(tries) if _failed(pair[0])]
    return sorted(found, key=_wait)


def _failed(line: Line) -> bool:
    """Whether a try failed, as far as the mailer could know: refused, or without a reply."""
    return not 200 <= line["code"] < 300 or bool(line.get("fault"))


def _wait(pair: tuple[Line, Line]) -> float:
    return float(pair[1]["time"] - pair[0]["time"])


def _evidence(pairs: Sequence[tuple[Line, Line]]) -> tuple[Line, ...]:
    return tuple(line for pair in pairs for line in pair)[:SHOWN]


def _most(times: Sequence[float], period: float, amounts: Sequence[float] | None = None) -> tuple[float, int]:
    """Return the largest sum in any half-open stretch of a period, and the place where that stretch begins."""
    amounts = amounts or [1.0] * len(times)
    most, place, first, total = 0.0, 0, 0, 0.0
    for last, time in enumerate(times):
        total += amounts[last]
        while times[first] <= time - period + INSTANT:
            total -= amounts[first]
            first += 1
        if total > most:
            most, place = total, first
    return most, place


def _no_ids(lines: Sequence[Line], else_: str) -> str:
    """Say why nothing can be said of retries: no ids, or what `else_` says."""
    transferred = [line for line in lines if line["stage"] == "EOD"]
    if transferred and not any(line["message_id"] for line in transferred):
        return "its messages have no Message-ID, so that a retry can't be told from another message"
    return else_


def _count(number: float, noun: str) -> str:
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


# The rules


def _backoff(run: Run) -> Verdict:
    lines = run.lines("deferred")
    retries = _retries([line for line in lines if line["code"] < 500])
    if not retries:
        deferred = len(_by_message(lines))
        why = f"{_count(deferred, 'message')} deferred, and none came again" if deferred else "nothing was deferred"
        return Verdict("backoff", "not tested", _no_ids(lines, why))
    early = [pair for pair in retries if _wait(pair) < run.patience]
    if early:
        says = f"{len(early)} of {len(retries)} retries came too early, the first after "
        says += f"{_wait(early[0]):.4g} s: less than {LONG_ENOUGH:g} s (Postfix; RFC 5321 §4.5.4.1 says 30 minutes)"
        return Verdict("backoff", "failed", says, _evidence(early))
    herd = _herd(run, lines)
    if herd:
        says = f"{len(herd)} messages came back together, {len(herd[0]) - 1} times, always after the same wait"
        return Verdict("backoff", "failed", says, tuple(line for tries in herd for line in tries[1:3])[:SHOWN])
    waits = [_wait(pair) for pair in retries]
    says = f"{_count(len(waits), 'wait')} before a retry, from {waits[0]:.4g} to {waits[-1]:.4g} s"
    return Verdict("backoff", "passed", says, _evidence(retries[:2]))


def _herd(run: Run, lines: Sequence[Line]) -> list[list[Line]]:
    """Return the messages that march in lockstep: at each return at one moment, side by side, at a constant interval.

    One after the other on a connection or two is no herd, nor is one that comes less and less often.
    """
    often = [tries for tries in _by_message(lines).values() if len(tries) > HERD]
    steady = []
    for tries in often:
        waits = [_wait(pair) for pair in pairwise(tries)]
        if max(waits) - min(waits) <= ROUNDING * run.second + INSTANT:
            steady.append(tries)
    for leader in steady:
        together = [tries for tries in steady if len(tries) >= len(leader) and _side_by_side(leader, tries)]
        if len(together) >= HERD:
            return [tries[: len(leader)] for tries in together]
    return []


def _side_by_side(one: Sequence[Line], other: Sequence[Line]) -> bool:
    """Whether at each return both have a session of their own, open at the same time."""
    return one is other or all(
        a["session"] != b["session"] and max(a["opened"], b["opened"]) <= min(a["time"], b["time"]) + INSTANT
        for a, b in zip(one[1:], other[1:], strict=False)
    )


def _permanent(run: Run) -> Verdict:
    lines = [line for line in run.lines("rejected") if line["code"] >= 500]
    refused = _by_message(lines)
    if not refused:
        return Verdict("permanent", "not tested", _no_ids(lines, "nothing was refused for good"))
    again = [tries for tries in refused.values() if len(tries) > 1]
    if again:
        first = min(_wait((tries[0], tries[1])) for tries in again)
        says = f"{len(again)} of {_count(len(refused), 'message')} refused for good came again, "
        says += f"the first after {first:.4g} s"
        return Verdict("permanent", "failed", says, _evidence([(tries[0], tries[1]) for tries in again]))
    says = f"{_count(len(refused), 'message')} refused for good, none of which came again"
    return Verdict("permanent", "passed", says, tuple(lines[:2]))


def _duplicate(run: Run) -> Verdict:
    for name, seen in run.trials.items():
        for tries in _by_message(seen.lines).values():
            accepted = [line for line in tries if line["code"] < 300]
            heard = next((place for place, line in enumerate(accepted) if not line.get("fault")), len(accepted))
            if len(accepted) > heard + 1:
                says = f"a message was accepted {len(accepted)} times, once more after its 250 had been said"
                says += f" (trial {name})"
                return Verdict("duplicate", "failed", says, tuple(accepted[:SHOWN]))
    twice = [tries for tries in _by_message(run.lines("slow")).values() if sum(one["code"] < 300 for one in tries) > 1]
    if twice:
        says = f"it didn't wait {SLOW:g} s for a reply and sent a message again that was accepted: RFC 5321 §4.5.3.2.6 "
        says += "has it wait 10 minutes"
        return Verdict("duplicate", "failed", says, tuple(twice[0][:SHOWN]))
    lines = run.lines("lost")
    lost = _by_message([line for line in lines if line["code"] < 300 and line.get("fault")])
    if not lost:
        return Verdict("duplicate", "not tested", _no_ids(lines, "no reply was lost"))
    early = [pair for pair in _retries(lines) if _wait(pair) < run.patience]
    if early:
        says = f"a message whose reply was lost came again after {_wait(early[0]):.4g} s: a lost reply is no refusal, "
        says += f"and whoever can't tell waits as after any failed try, {LONG_ENOUGH:g} s (RFC 1047)"
        return Verdict("duplicate", "failed", says, _evidence(early))
    again = _retries(lines)
    says = f"{_count(len(lost), 'message')} lost its reply" if len(lost) == 1 else f"{len(lost)} messages lost a reply"
    if again:
        says += f"; what came again had its old id and had waited, at least {_wait(again[0]):.4g} s (RFC 1047)"
    else:
        says += "; none came again"
    return Verdict("duplicate", "passed", says, _evidence(again[:2]) or tuple(lines[:2]))


def _storm(run: Run) -> Verdict:
    dropped = [line for line in run.lines("dropped") if line["stage"] == "CONNECT"]
    if not dropped:
        return Verdict("storm", "not tested", "no connection was dropped")
    most, place = _most([line["opened"] for line in dropped], run.patience)
    messages = max(1, run.messages)
    says = f"{_count(len(dropped), 'connection')} dropped; at most {_count(most, 'connect')} within {LONG_ENOUGH:g} s"
    says += f", for {_count(messages, 'message')}"
    if most > messages:
        return Verdict("storm", "failed", says, tuple(dropped[place : place + SHOWN]))
    return Verdict("storm", "passed", says, tuple(dropped[:2]))


def _closing(run: Run) -> Verdict:
    lines = run.lines("closing")
    closed = [line for line in lines if line["code"] == 421]
    if not _by_message(closed):
        return Verdict("421", "not tested", _no_ids(closed, "nothing was answered by 421"))
    retries = _retries(lines)
    early = [pair for pair in retries if _wait(pair) < run.patience]
    if early:
        says = f"a message was offered again {_wait(early[0]):.4g} s after a 421: the server asked to be left alone "
        says += f"(RFC 5321 §3.8), and that takes {LONG_ENOUGH:g} s at least"
        return Verdict("421", "failed", says, _evidence(early))
    if not retries and run.retries:
        says = "after a 421 no message came again, though after a 451 they do: 421 is temporary, too (RFC 5321 §4.2.1)"
        return Verdict("421", "failed", says, tuple(closed[:SHOWN]))
    if not retries:
        return Verdict("421", "not tested", f"{_count(len(closed), 'message')} answered by 421, and none came again")
    says = f"{_count(len(closed), 'time')} 421; the shortest wait after it was {_wait(retries[0]):.4g} s"
    return Verdict("421", "passed", says, _evidence(retries[:2]))


def _size(run: Run) -> Verdict:
    limit = size_of(run.provider)
    if limit is None:
        return Verdict("size", "not tested", f"{run.provider.name} announces no SIZE")
    seen = run.trials.get("oversize", Seen())
    about = [line for line in seen.lines if line["limit"].endswith(f"/{limit.id}")]
    sent = [line for line in about if line["stage"] == "EOD"]
    if sent:
        says = f"{_count(len(sent), 'message')} sent in full, the first of {sent[0]['bytes']:,} bytes, "
        says += "though EHLO said SIZE 1 (RFC 1870)"
        return Verdict("size", "failed", says, tuple(sent[:SHOWN]))
    if about:
        says = f"{_count(len(about), 'message')} refused at MAIL by the size it declared, and none sent in full"
        return Verdict("size", "passed", says, tuple(about[:2]))
    if seen.sessions and not any(line["stage"] in ("CONNECT", "AUTH") for line in seen.lines):
        return Verdict("size", "passed", f"{_count(seen.sessions, 'connection')}, and nothing too large was offered")
    return Verdict("size", "not tested", "nothing was offered")


def _token(run: Run) -> Verdict:
    lines = run.lines("stale")
    if not {"XOAUTH2", "OAUTHBEARER"} & set(run.provider.auth):
        return Verdict("token", "not tested", f"{run.provider.name} takes no tokens")
    if "stale" not in run.trials:
        return Verdict("token", "not tested", "COMMAND has no {token}, or no {refresh_token} to get another by")
    refused = [line for line in lines if line["stage"] == "AUTH" and line["code"] >= 400 and not line["limit"]]
    accepted = [line for line in lines if line["stage"] == "EOD" and line["code"] < 300]
    if run.provider.tls == "required" and not all(line["tls"] for line in refused):
        return Verdict("token", "not tested", "it tried to log in without TLS")
    if not refused:
        return Verdict("token", "not tested", "it didn't log in with the token that it was given")
    by_account: dict[str, list[Line]] = defaultdict(list)
    for line in refused:
        by_account[line["account"]].append(line)
    worn = next((tries for tries in by_account.values() if len(tries) > 1), [])
    if worn:
        says = f"it tried a token {len(worn)} times that was refused the first time"
        return Verdict("token", "failed", says, tuple(worn[:SHOWN]))
    if not accepted:
        return Verdict("token", "failed", "its token was refused, and it got no other", tuple(refused[:SHOWN]))
    says = f"its token was refused once, and {_count(len(accepted), 'message')} went out with another"
    return Verdict("token", "passed", says, (refused[0], accepted[0]))


def _quota(run: Run) -> Verdict:
    limit = quota_of(run.provider)
    if limit is None:
        return Verdict("quota", "not tested", f"no quota of {run.provider.name} refuses messages")
    lines = run.lines("quota")
    spoke = [line for line in lines if line["limit"].endswith(f"/{limit.id}") and line["code"] >= 400]
    if not spoke:
        return Verdict("quota", "not tested", f"{limit.id} never spoke: too few messages were offered")
    first = spoke[0]
    until = first["time"] + run.patience
    later = [line for line in lines if line["time"] >= until]
    if first["code"] >= 500:
        went_on = list(_not_in_flight(first, [line for line in spoke[1:] if line["time"] < until]))
        if went_on:
            says = f"after the quota's first reply it offered {_count(len(went_on), 'more message')} within "
            says += f"{LONG_ENOUGH:g} s on that account, each refused with a {first['code']}"
            return Verdict("quota", "failed", says, (first, *went_on)[:SHOWN])
    else:
        most, place = _most([line["time"] for line in spoke], run.patience)
        if most > max(1, run.messages):
            says = f"the quota spoke {most:.0f} times within {LONG_ENOUGH:g} s, to {_count(run.messages, 'message')}"
            return Verdict("quota", "failed", says, tuple(spoke[place : place + SHOWN]))
    came_again = any(line is not first and line["message_id"] == first["message_id"] for line in lines)
    long_after = any(line["time"] >= first["time"] + HALF_AN_HOUR for line in lines)
    if first["message_id"] and long_after and not came_again:
        says = "the message that met the quota first was given up, though others were sent more than half an hour later"
        return Verdict("quota", "failed", says, (first, *later[:1]))
    if not later and first["code"] < 500 and run.retries:
        says = "what met the quota was given up, though other deferred messages are tried again"
        return Verdict("quota", "failed", says, tuple(spoke[:SHOWN]))
    offered = len([line for line in lines if line["stage"] != "AUTH"])
    if not later and (first["code"] < 500 or offered >= run.messages):
        why = "nothing was left to send after the quota's reply" if first["code"] >= 500 else "nothing came again"
        return Verdict("quota", "not tested", why, (first,))
    says = f"the quota spoke {_count(len(spoke), 'time')}; nothing was given up for it"
    return Verdict("quota", "passed", says, (first, *later[:1]))


def _not_in_flight(first: Line, others: Sequence[Line]) -> Iterator[Line]:
    """Yield the refusals after the first that the mailer could have avoided.

    What another session had under way when the first reply came, one message each, it couldn't.
    """
    excused: set[int] = set()
    for line in others:
        under_way = line["session"] != first["session"] and line["opened"] <= first["time"] + INSTANT
        if not under_way or line["session"] in excused:
            yield line
        excused.add(line["session"])


def _starttls(run: Run) -> Verdict:
    if run.provider.tls == "none":
        return Verdict("starttls", "not tested", f"{run.provider.name} offers no STARTTLS")
    every = [line for seen in run.trials.values() for line in seen.lines if line["stage"] not in ("CONNECT", "EHLO")]
    clear = [line for line in every if not line["tls"]]
    if clear:
        what = "logged in" if any(line["account"] and line["account"] != line["ip"] for line in clear) else "went on"
        says = f"it {what} in the clear in {_count(len({line['session'] for line in clear}), 'session')}, "
        says += "though STARTTLS was offered (RFC 3207)"
        return Verdict("starttls", "failed", says, tuple(clear[:SHOWN]))
    if not every:
        return Verdict("starttls", "not tested", "no session came as far as that")
    return Verdict("starttls", "passed", f"TLS before all of {_count(len(every), 'outcome')}", tuple(every[:1]))


@dataclass(frozen=True, slots=True)
class Usage:
    """How near the mailer came to a limit.

    Parameters
    ----------
    limit : Limit
        Which.
    most : float
        The largest number in any window; of connections and transactions, the most sessions at once.
    offered : float
        The number in the whole run, of whoever offered most.
    over : tuple of dict
        Ledger lines of what the limit refused or held.
    """

    limit: Limit
    most: float
    offered: float
    over: tuple[Line, ...]

    @property
    def allowed(self) -> float:
        """What the limit allows."""
        assert self.limit.limit is not None
        return self.limit.limit.amount

    @property
    def tested(self) -> bool:
        """Whether so much was offered that the limit could have been exceeded."""
        return bool(self.over) or self.offered > self.allowed


def usage(run: Run) -> list[Usage]:
    """Return how near the mailer came to each limit while nothing went wrong; limits that are off are left out."""
    lines = run.lines("plain")
    found = []
    for limit in run.provider.limits:
        if limit.limit is None or limit.only:
            continue
        over = tuple(line for line in lines if line["limit"] == f"{run.provider.name}/{limit.id}")
        counted = [line for line in lines if _counts(limit, line)]
        groups: dict[object, list[Line]] = defaultdict(list)
        for line in counted:
            groups[_key(limit, line)].append(line)
        measured = [_measured(limit, group) for group in groups.values()]
        most, offered = (max(one) for one in zip(*measured, strict=True)) if measured else (0.0, 0.0)
        found.append(Usage(limit, most, offered, over))
    return found


def _counts(limit: Limit, line: Line) -> bool:
    """Whether a ledger line is of what a limit counts."""
    if limit.count in ("sessions", "connections"):
        return True
    if limit.count == "logins":
        return bool(line["account"])
    spoke = line["limit"].endswith(f"/{limit.id}")
    return spoke or (line["stage"] == "EOD" and (line["code"] < 300 or limit.counts == "attempts"))


def _key(limit: Limit, line: Line) -> object:
    """Return what a limit counts by; a recipient's domain isn't in the ledger, so that all are one."""
    sender = line["mail_from"]
    return {
        "account": line["account"],
        "tenant": line["account"].rpartition("@")[2],
        "sender": sender.lower(),
        "domain": sender.rpartition("@")[2].lower(),
        "ip": line["ip"],
        "session": line["session"],
        "message": (line["session"], line["time"], line["message_id"]),
        "recipient_domain": "",
    }[limit.per]


def _measured(limit: Limit, lines: Sequence[Line]) -> tuple[float, float]:
    """Return the largest number in any window, and the number in all."""
    assert limit.limit is not None
    sessions = {line["session"]: (line["opened"], line["time"]) for line in lines}  # until its last line, at least
    if limit.count in ("sessions", "logins"):
        times, amounts = sorted(opened for opened, _ in sessions.values()), [1.0] * len(sessions)
    elif limit.count in ("connections", "transactions"):
        at_once = [sum(opened <= at <= until for opened, until in sessions.values()) for at, _ in sessions.values()]
        return float(max(at_once)), float(len(sessions))
    else:
        ordered = sorted(lines, key=lambda line: line["time"])
        times = [line["time"] for line in ordered]
        unit = "bytes" if limit.count == "bytes" else "recipients"
        amounts = [1.0 if limit.count == "messages" else float(line[unit]) for line in ordered]
    period = limit.limit.period
    total = sum(amounts)
    return (total if period is None else _most(times, period, amounts)[0]), total


def _limits(run: Run) -> Verdict:
    every = usage(run)
    over = [one for one in every if one.over]
    if over:
        worst = over[0]
        held = all(line["code"] < 400 for line in worst.over)
        says = f"{_count(worst.most, UNIT[worst.limit.count])} {_in_any(worst.limit)}, {worst.allowed:,g} allowed: "
        says += f"{worst.limit.id} {'held' if held else 'refused'} {len(worst.over):,}"
        return Verdict("limits", "failed", says, worst.over[:SHOWN])
    tested = [one for one in every if one.tested]
    if tested:
        nearest = max(tested, key=lambda one: one.most / one.allowed)
        says = f"{_count(nearest.most, UNIT[nearest.limit.count])} {_in_any(nearest.limit)} at most, "
        says += f"{nearest.allowed:,g} allowed ({nearest.limit.id})"
        return Verdict("limits", "passed", says)
    if not every:
        return Verdict("limits", "not tested", f"no limit of {run.provider.name} is known")
    if not run.lines("plain"):
        return Verdict("limits", "not tested", "nothing was offered")
    nearest = max(every, key=lambda one: one.offered / one.allowed)
    says = f"too few: {_count(nearest.offered, UNIT[nearest.limit.count])} in all, {nearest.allowed:,g} allowed "
    says += f"{_in_any(nearest.limit)} ({nearest.limit.id})"
    return Verdict("limits", "not tested", says)


UNIT: Final = {
    "messages": "message",
    "recipients": "recipient",
    "unique_recipients": "recipient",
    "external_recipients": "recipient",
    "connections": "session",
    "transactions": "session",
    "sessions": "session",
    "logins": "login",
    "bytes": "byte",
}


WORDS: Final = {"s": "second", "min": "minute", "h": "hour", "d": "day"}


def _in_any(limit: Limit) -> str:
    """Say in what a limit counts: ``in any minute``, ``in a message``, ``at once``."""
    assert limit.limit is not None
    if limit.limit.period is not None:
        period = str(limit.limit).partition("/")[2]
        return f"in any {WORDS.get(period, period)}"
    return f"in a {limit.per}" if limit.per in ("message", "session") else "at once"


_JUDGES: Final[Mapping[str, Callable[[Run], Verdict]]] = {
    "limits": _limits,
    "backoff": _backoff,
    "permanent": _permanent,
    "duplicate": _duplicate,
    "storm": _storm,
    "421": _closing,
    "size": _size,
    "token": _token,
    "quota": _quota,
    "starttls": _starttls,
}


# The setting that would have been safe


@dataclass(frozen=True, slots=True)
class Setting:
    """What to type in, so that no limit is ever exceeded.

    Parameters
    ----------
    batch, wait : int, float
        So many messages, then nothing until `wait` seconds after the first of them; 0, inf: no limit asks for a pace.
    at_most : dict of str to str
        Amounts for longer times, which no pace is to be stretched over: ``{"recipients-per-day": "10000/d"}``.
    connections, messages_per_session : int, optional
        So many at once, and so many on each; None: nobody says.
    """

    batch: int
    wait: float
    at_most: Mapping[str, str]
    connections: int | None
    messages_per_session: int | None

    def json(self) -> dict[str, Any]:
        """Return it as a document, ``wait_s`` in seconds, null where there is no pace."""
        paced = self.batch > 0
        return {
            "batch": self.batch if paced else None,
            "wait_s": self.wait if paced else None,
            "per_minute": 60 * self.batch / self.wait if paced else None,
            "at_most": dict(self.at_most),
            "connections": self.connections,
            "messages_per_session": self.messages_per_session,
        }


def safe_setting(provider: Provider, recipients: int = 1) -> Setting:
    """Return the fastest setting that can never exceed a provider's limits, though a message takes a second.

    Parameters
    ----------
    provider : Provider
        The facts, with readings and amounts already chosen.
    recipients : int
        Recipients that a message has at most.

    Returns
    -------
    Setting
        A batch and the wait after it, the connections, and what a day may take.

    Examples
    --------
    >>> safe_setting(Provider.load("office365")).json()["batch"], safe_setting(Provider.load("office365")).wait
    (5, 12.0)
    """
    counted = [
        one
        for one in provider.limits
        if one.limit is not None and one.limit.period is not None and one.count in ("messages", *UNITS) and not one.only
    ]
    each = {one.id: 1 if one.count == "messages" else max(1, recipients) for one in counted}
    short = [one for one in counted if one.limit and one.limit.period and one.limit.period <= HOUR]
    per_message = {
        one.id: f"{one.limit.amount / each[one.id]:g}/{one.limit.period:g}s"
        for one in short
        if one.limit is not None and one.limit.period is not None
    }
    in_messages = provider.set(per_message)
    pace = fastest([in_messages.limit(one.id) for one in short], TRANSACTION) if short else None
    at_once = [
        int(one.limit.amount)
        for one in provider.limits
        if one.limit is not None and one.count in ("connections", "transactions") and one.limit.period is None
    ]
    on_each = [
        int(one.limit.amount)
        for one in provider.limits
        if one.limit is not None and (one.count, one.per) == ("messages", "session") and one.limit.period is None
    ]
    shaping = provider.shaping
    return Setting(
        batch=0 if pace is None else pace.batch,
        wait=math.inf if pace is None else pace.wait,
        at_most={one.id: str(one.limit) for one in counted if one not in short},
        connections=min([*at_once, *([shaping.connections] if shaping.connections else [])], default=None),
        messages_per_session=min(
            [*on_each, *([shaping.messages_per_session] if shaping.messages_per_session else [])], default=None
        ),
    )
