"""Logs to learn from: a sender that pushes at one limit of a provider for at most three of its windows.

``python tests/learnable.py [LOGS] [SEED]`` says how often the kind of a limit and its amount are learned;
`tests/test_learn.py` does that with fewer.
"""

import csv
import datetime as dt
import heapq
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from simlib.estimate import wilson
from simlib.evidence import masked
from simlib.learn import id_of, learn
from simlib.provider import Limit, Provider, names
from simlib.receiver import Account, Receiver, Session
from simlib.replies import COLUMNS
from simlib.search import Finding

START = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
ZERO = START.timestamp()
WINDOWS = 3
MOST = 300  # an amount beyond it is an account's own, smaller one: a log of a day's 10,000 takes long to write


class Pushed(NamedTuple):
    """A log, and the limit that it was pushed against."""

    provider: Provider
    limit: Limit
    rows: list[dict[str, Any]]
    text: str  # how that limit refuses
    times: int  # how often it spoke


def targets() -> list[tuple[str, str]]:
    """Return every limit of every provider that can be seen in replies."""
    found = []
    for name in names():
        limits = Provider.load(name).on(START.date()).limits
        found += [(name, limit.id) for limit in limits if limit.on_excess != "accept_late"]
    return found


def amount_of(limit: Limit, random: Random) -> object:
    """Return a limit's own amount, or one that an account might have."""
    few = limit.limit is not None and limit.limit.period == 1  # too few in three windows to learn anything from
    if limit.limit is not None and not few and (limit.limit.amount <= MOST or limit.count == "bytes"):
        return str(limit.limit) if limit.limit.period else limit.limit.amount
    amount = random.randint(20, MOST)
    if limit.window is None:
        return random.randint(3, 60) if limit.count in ("connections", "transactions") else amount
    if limit.limit is not None:
        return f"{amount}/{str(limit.limit).partition('/')[2]}"
    return f"{amount}/{'min' if 'minute' in limit.id else random.choice(['min', '10min', 'h', 'd'])}"


def pushed(name: str, limit_id: str, seed: int) -> Pushed:
    """Send against one limit until the log is three of its windows long."""
    random = Random(f"{name} {limit_id} {seed}")
    provider = Provider.load(name).on(START.date())
    provider = provider.set({limit_id: amount_of(provider.limit(limit_id), random)})
    limit = provider.limit(limit_id)
    assert limit.limit is not None
    published = Provider.load(name).on(START.date()).limit(limit_id).limit
    if published is None or (limit.limit.period is None and limit.per != "message"):
        others = (one for one in provider.limits if one.limit is not None and one.limit.period is not None)
        off = {one.id: "off" for one in others if one.id != limit_id and not (one.holds and published)}
        provider = provider.set(off)  # else it would never come to that
    rows = list(Sender(provider, limit, random).send())
    full_id = f"{name}/{limit_id}"
    spoke = [row for row in rows if row["limit"] == full_id]
    for row in rows:
        del row["limit"]
    return Pushed(provider, limit, rows, spoke[0]["text"] if spoke and spoke[0]["code"] >= 400 else "", len(spoke))


class Attempt(NamedTuple):
    began: float
    session: Session
    sender: int
    recipients: int
    size: int
    opened: bool


class Sender:
    """Who sends: a few accounts or addresses, each as a Poisson process that is too fast for the limit."""

    def __init__(self, provider: Provider, limit: Limit, random: Random) -> None:
        self.provider, self.limit, self.random = provider, limit, random
        self.senders = random.randint(2, 4)
        assert limit.limit is not None
        amount, period = limit.limit
        capped = limit.per == "message"
        self.recipients, self.pause = (1, 1), 0.0
        self.one_way = random.uniform(0.002, 0.02)
        if limit.count in ("recipients", "unique_recipients", "external_recipients"):
            self.recipients = (1, max(1, int(2 * amount))) if capped else random.choice([(1, 1), (1, 5)])
        self.sizes = (int(amount * 0.2), int(amount * 1.8)) if limit.count == "bytes" else (2_000, 60_000)
        mean = sum(self.recipients) / 2 if not capped else 1.0
        lasts = limit.count in ("connections", "transactions")
        self.service = (2.0, 20.0) if lasts else (0.05, 0.5)
        self.keeps = not lasts and (
            limit.per == "session" or (limit.at not in ("CONNECT", "EHLO", "AUTH") and random.random() < 0.5)
        )
        if period is not None:
            # with a penalty, a slower sender's windows tell more: they are longer
            self.rate = random.uniform(*((1.1, 1.3) if limit.penalty else (1.5, 3.0))) * amount / period / mean
            if limit.counts == "attempts" or (limit.penalty is None and random.random() < 0.5):
                self.pause = period / (8 if limit.counts == "attempts" else 30)
            self.until = WINDOWS * period
        elif lasts:
            self.rate = random.uniform(1.0, 1.5) * amount / 11.0
            self.until = 600 / self.rate
        else:
            self.rate = 0.5
            self.until = (4.5 * amount if limit.per == "session" else 300) / self.rate
        ip = "127.1.0." if limit.only else "127.0.0."
        self.ips = [f"{ip}{number + 1}" for number in range(self.senders)]
        shared = random.random() < 0.5 and limit.per not in ("ip",)
        if shared:
            self.ips = [f"{ip}1"] * self.senders
        domains = [f"t{number}.example" if limit.per in ("tenant", "domain") else "t.example" for number in range(4)]
        self.addresses = [f"rep{number:02}@{domains[number]}" for number in range(self.senders)]

    def user(self, sender: int) -> str:
        """Return who logs in."""
        if self.provider.credential == "account":
            return self.addresses[sender]
        return f"login{sender}" if self.limit.per == "account" else self.addresses[sender].partition("@")[2]

    def patience(self) -> float:
        """Return how long it waits after a refusal."""
        return self.random.expovariate(1 / self.pause) if self.pause else 0.0

    def send(self) -> Iterator[dict[str, Any]]:
        """Yield the log, by the time of each reply."""
        domains = frozenset(address.partition("@")[2] for address in self.addresses)
        users = [self.user(sender) for sender in range(self.senders)]
        accounts = {user: Account(user, domains=domains) for user in users}
        receiver = Receiver(self.provider, accounts, START)
        random, steps, idle = self.random, 0, {sender: list[Session]() for sender in range(self.senders)}
        queue: list[tuple[float, int, Any]] = []
        quiet = [0.0] * self.senders
        found: list[dict[str, Any]] = []

        def later(at: float, what: Any) -> None:
            nonlocal steps
            steps += 1
            heapq.heappush(queue, (at, steps, what))

        for sender in range(self.senders):
            later(random.expovariate(self.rate), sender)
        while queue:
            now, _, what = heapq.heappop(queue)
            if isinstance(what, int):
                if now >= self.until:
                    continue
                if now >= quiet[what] and self._begin(receiver, what, now, idle[what], found, later):
                    quiet[what] = now + self.patience()
                later(now + random.expovariate(self.rate), what)
            elif isinstance(what, Attempt):
                reply = receiver.end_of_data(what.session, what.size, now)
                found.append(self._row(receiver, what, reply, now + reply.delay))
                if reply.code >= 400:
                    quiet[what.sender] = now + self.patience()
                later(now + reply.delay + (0 if reply.closes else 2 * self.one_way), (what, reply.closes))
            else:
                attempt, closes = what
                if self.keeps and not closes:
                    idle[attempt.sender].append(attempt.session)
                else:
                    receiver.disconnect(attempt.session, now)
        found.sort(key=lambda row: row["ended"])
        for row in found:
            del row["ended"]
        yield from found

    def _begin(self, receiver: Receiver, sender: int, now: float, idle: list[Session], found: Any, later: Any) -> bool:
        random = self.random
        low, high = self.recipients
        recipients = random.randint(low, high)
        opened = not idle
        if opened:
            session, reply = receiver.connect(self.ips[sender], now)
            if reply.code < 400 and self.provider.auth:
                token = not receiver._takes_passwords or self.provider.auth[0] in ("XOAUTH2", "OAUTHBEARER")
                user = self.user(sender)
                secret = receiver.issue_token(user, "", now) or "" if token else "password"
                reply = receiver.log_in(session, user, secret, now, token)
            elif reply.code < 400:
                reply = receiver.ehlo(session, now)
        else:
            session = idle.pop()
            reply = None
        attempt = Attempt(now, session, sender, recipients, random.randint(*self.sizes), opened)
        if reply is None or reply.code < 400:
            reply = receiver.offer(session, self.addresses[sender], recipients, now)
        if reply.code >= 400:
            found.append(self._row(receiver, attempt, reply, now))
            if reply.closes or reply.stage in ("CONNECT", "EHLO", "AUTH") or not self.keeps:
                receiver.disconnect(session, now)
            else:
                idle.append(session)
            return True
        later(now + random.uniform(*self.service), attempt)
        return False

    def _row(self, receiver: Receiver, attempt: Attempt, reply: Any, said: float) -> dict[str, Any]:
        """Return a row as the client sees it, who hears and is heard a little later."""
        setup = 2 * self.one_way if attempt.opened else 0.0
        began, ended = attempt.began - self.one_way - setup, said + self.one_way
        return {
            "time": dt.datetime.fromtimestamp(ZERO + ended, dt.UTC).isoformat(),
            "ended": ended,
            "setup": f"{setup:.6f}",
            "took": f"{ended - began:.6f}",
            "provider": self.provider.name,
            "session": attempt.session.number,
            "ip": attempt.session.ip,
            "account": self.user(attempt.sender) if self.provider.auth else "",
            "mail_from": self.addresses[attempt.sender],
            "recipients": attempt.recipients,
            "bytes": attempt.size,
            "stage": reply.stage,
            "code": reply.code,
            "enhanced": reply.enhanced,
            "text": receiver.render(reply, attempt.session, said),
            "limit": reply.limit,
        }


def write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


KINDS = {"message": "message", "session": "session"}
ALIKE = {"unique_recipients": "recipients", "external_recipients": "recipients"}


def verdict(log: Pushed, path: Path) -> tuple[str, Finding | None]:
    """Learn from a log: ``right``, ``wrong``, ``not enough``, or ``silent`` if the limit never spoke."""
    if not log.times:
        return "silent", None
    write(log.rows, path)
    (learned,) = learn(path)
    limit = log.limit
    assert limit.limit is not None
    amount, period = limit.limit
    mine = [one for one in learned.findings if _is_about(one, log)]
    if not mine or not mine[0].enough:
        return "not enough", mine[0] if mine else None
    best, bound = mine[0].best, mine[0].bounds
    kind = KINDS.get(limit.per, limit.window or "in_use")
    same_count = ALIKE.get(limit.count, limit.count) in (best.count, *mine[0].same.get("count", ()))
    lasts = kind == "in_use"
    right = best.kind == kind and best.period == period and bound.low <= amount <= bound.high and (same_count or lasts)
    return "right" if right else "wrong", mine[0]


def _is_about(finding: Finding, log: Pushed) -> bool:
    if log.limit.holds:
        return not finding.family.words
    return (
        bool(finding.family.words) and finding.family.stage == log.limit.at and _words(finding.text) == _words(log.text)
    )


def _words(text: str) -> list[str]:
    return masked(text).split()


def chosen(logs: int, seed: int) -> list[tuple[str, str, int]]:
    """Return which logs to learn from: every limit in turn."""
    every = targets()
    Random(seed).shuffle(every)
    return [(*every[number % len(every)], seed * 1000 + number) for number in range(logs)]


def main() -> int:
    logs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    tally: Counter[str] = Counter()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for name, limit_id, number in chosen(logs, seed):
            start = time.process_time()
            log = pushed(name, limit_id, number)
            found, finding = verdict(log, Path(folder) / "replies.csv")
            tally[found] += 1
            took = time.process_time() - start
            if found != "right" or "-v" in sys.argv:
                said = ""
                if finding is not None:
                    said = finding.why or f"{id_of(finding)} {finding.best} {finding.bounds}"
                print(
                    f"{found:10} {name}/{limit_id} {log.limit.limit} {log.limit.window} seed {number} "
                    f"{len(log.rows)} rows, {log.times} times, {took:.1f} s: {said}",
                    flush=True,
                )
    judged = logs - tally["silent"]
    low, high = wilson(tally["right"], judged)
    took = time.process_time() - began
    print(f"{dict(tally)}: {tally['right']} of {judged} right ({low:.3f} to {high:.3f}), {took:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
