"""A sender that behaves, on a virtual clock that it moves itself; and others that don't, each in one way.

They speak to a fake in this process. Nothing waits in real time, so that a trial takes milliseconds.
"""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Final, Literal

from fakes import Answer, Client, Running, bearer, encoded, running

from fake_servers.clock import VirtualClock
from simlib.audit import LASTS, RULES, Run, Seen, Trial, quota_of, trials
from simlib.faults import Faults
from simlib.provider import Provider

USER: Final = "rep01@us.example"
BEYOND: Final = 60.0  # seconds that a session is kept open for the next message

Outcome = Literal["accepted", "deferred", "rejected", "closed", "lost", "dropped", "quota", "refused login"]


@dataclass(frozen=True)
class Manners:
    """How a sender behaves. As it stands here it keeps every rule, at a provider that takes 5 messages a minute.

    Waits are in seconds, the last one repeats; None: it gives up. `spread` is the share by which they vary.
    """

    messages: int = 6
    pace: float = 12.0
    at_once: int = 1
    own_session: bool = False
    spread: float = 0.2
    deferred: tuple[float, ...] | None = (500.0, 1000.0, 2000.0)
    closed: tuple[float, ...] | None = (600.0,)
    lost: tuple[float, ...] | None = (600.0,)
    dropped: tuple[float, ...] | None = (600.0,)
    rejected: tuple[float, ...] | None = None
    accepted: tuple[float, ...] | None = None
    quota: tuple[float, ...] | None = (900.0,)
    pauses: bool = True
    hangs_up: float | None = None
    tls: Literal["always", "at first", "never"] = "always"
    size: Literal["looks", "declares", "lies", "ignores"] = "looks"
    token: Literal["refreshes", "insists", "gives up"] = "refreshes"


GOOD: Final = Manners()
BROKEN: Final = {
    "sends all at once": (replace(GOOD, pace=0.0), "limits"),
    "paces by the clock's minutes": (replace(GOOD, messages=12, at_once=6, pace=60.0), "limits"),
    "a little too fast": (replace(GOOD, pace=11.0), "limits"),
    "retries in no time": (replace(GOOD, deferred=(40.0,)), "backoff"),
    "retries every minute": (replace(GOOD, deferred=(60.0,)), "backoff"),
    "waits less and less": (replace(GOOD, deferred=(900.0, 400.0, 100.0)), "backoff"),
    "first hurried, then patient": (replace(GOOD, deferred=(1.0, 900.0)), "backoff"),
    "in lockstep": (replace(GOOD, deferred=(400.0,), spread=0.0, own_session=True, pace=0.0, messages=4), "backoff"),
    "retries what was refused": (replace(GOOD, rejected=(900.0,)), "permanent"),
    "takes no for not yet": (replace(GOOD, rejected=(1.0, 1800.0)), "permanent"),
    "sends again what it got no reply to": (replace(GOOD, lost=(60.0,)), "duplicate"),
    "waits a moment for a lost reply": (replace(GOOD, lost=(150.0,)), "duplicate"),
    "sends everything twice": (replace(GOOD, accepted=(900.0, None)), "duplicate"),  # type: ignore[arg-type]
    "doesn't wait for a reply": (replace(GOOD, hangs_up=10.0), "duplicate"),
    "reconnects at once": (replace(GOOD, dropped=(5.0,)), "storm"),
    "reconnects every ten seconds": (replace(GOOD, dropped=(10.0,)), "storm"),
    "reconnects every minute": (replace(GOOD, dropped=(60.0,), messages=3), "storm"),
    "ignores 421": (replace(GOOD, closed=(100.0,)), "421"),
    "comes back soon after 421": (replace(GOOD, closed=(200.0,)), "421"),
    "takes 421 for no": (replace(GOOD, closed=None), "421"),
    "ignores SIZE": (replace(GOOD, size="ignores"), "size"),
    "lies about SIZE": (replace(GOOD, size="lies"), "size"),
    "insists on its token": (replace(GOOD, token="insists"), "token"),
    "can't get another token": (replace(GOOD, token="gives up"), "token"),
    "bounces people at a quota": (replace(GOOD, quota=None, pauses=False), "quota"),
    "goes on at a quota": (replace(GOOD, pauses=False), "quota"),
    "pauses at a quota for a moment": (replace(GOOD, quota=(60.0,)), "quota"),
    "gives up who met the quota": (replace(GOOD, quota=None), "quota"),
    "skips STARTTLS": (replace(GOOD, tls="never"), "starttls"),
    "forgets STARTTLS": (replace(GOOD, tls="at first", own_session=True), "starttls"),
}
"""By name: the manners, one of them bad, and the rule that names it."""


class Sender:
    """Sends its messages to a fake until each is accepted or given up, or the trial's time is over."""

    def __init__(self, fake: Running, manners: Manners, seed: int, stale: bool) -> None:
        self.fake = fake
        self.manners = manners
        self.luck = random.Random(seed)
        self.sessions = 0
        self.open: list[Client] = []
        self.largest = 0
        step = manners.at_once
        self.due = [(number // step * manners.pace, number, 0) for number in range(manners.messages)]
        self.paused_until = 0.0
        self.refreshes = True
        self.token = self.fresh()
        if stale:
            fake.fake.receiver.revoke(USER)
            fake.fake.receiver.accounts[USER].revoked = False

    @property
    def now(self) -> float:
        return self.fake.clock.now()

    def fresh(self) -> str:
        return self.fake.fake.issue_token(USER, USER) or ""

    async def run(self) -> None:
        """Take what is due, in turn."""
        while self.due:
            due, number, tries = heappop(self.due)
            at = max(due, self.paused_until, self.now)
            if at > LASTS:
                break
            if at > self.now:
                if at > self.now + BEYOND:
                    await self.hang_up()
                assert isinstance(self.fake.clock, VirtualClock)
                await self.fake.clock.advance(at)
            self.settle(number, tries, await self.deliver(number))
            if self.manners.own_session:
                await self.hang_up()
        await self.hang_up()

    def settle(self, number: int, tries: int, outcome: Outcome) -> None:
        """Decide when a message is due again, if ever."""
        if outcome == "refused login":
            waits: tuple[float, ...] | None = {"refreshes": (0.0, 900.0), "insists": (900.0,), "gives up": None}[
                self.manners.token
            ]
            if self.manners.token == "refreshes":
                self.token = self.fresh()
        else:
            waits = getattr(self.manners, outcome)
        if outcome == "dropped" and waits:  # nobody else need try, either
            self.paused_until = self.now + waits[-1]
        if outcome == "quota" and self.manners.pauses:
            self.paused_until = self.now + (waits or (900.0,))[0]
        if waits is None or waits[min(tries, len(waits) - 1)] is None:
            return
        wait = waits[min(tries, len(waits) - 1)]
        again = self.now + wait * self.luck.uniform(1, 1 + self.manners.spread)
        # who met the quota comes first after the pause
        heappush(self.due, (-1.0 if outcome == "quota" and self.manners.pauses else again, number, tries + 1))

    async def deliver(self, number: int) -> Outcome:
        """Offer a message, on the session that is open or a new one."""
        try:
            if not self.open:
                refusal = await self.log_in()
                if refusal is not None:
                    return refusal
        except (EOFError, ConnectionError):
            await self.hang_up()
            return "dropped"
        client = self.open[-1]
        text = f"From: <{USER}>\r\nMessage-ID: <us-{number}@sendlab.example>\r\n\r\nhello\r\n"
        if self.manners.size == "looks" and self.largest and len(text) > self.largest:
            return "rejected"
        said = {"declares": f" SIZE={len(text)}", "lies": " SIZE=1"}.get(self.manners.size, "")
        try:
            for line in (f"MAIL FROM:<{USER}>{said}", "RCPT TO:<to@them.example>", "DATA"):
                answer = await client.ask(line)
                if answer.code >= 400:
                    if line[:4] != "MAIL":
                        await client.ask("RSET")
                    return await self.outcome(answer)
            return await self.outcome(await self.patiently(client.ask(f"{text}.\r\n".encode())))
        except (EOFError, ConnectionError, TimeoutError):
            await self.hang_up()
            return "lost"

    async def outcome(self, answer: Answer) -> Outcome:
        limit = quota_of(self.fake.fake.provider)
        if limit is not None and limit.limit is not None:
            refusal = self.fake.fake.provider.refusal(limit)
            if (answer.code, answer.text.partition(" ")[0]) == (refusal.code, refusal.enhanced):
                return "quota"
        if answer.code == 421:
            await self.hang_up()
            return "closed"
        return "accepted" if answer.code < 300 else "deferred" if answer.code < 500 else "rejected"

    async def log_in(self) -> Outcome | None:
        """Open a session: None if it is good for mail."""
        provider = self.fake.fake.provider
        client = Client(*await asyncio.open_connection("127.0.0.1", self.fake.port))
        self.open.append(client)
        self.sessions += 1
        client.banner = await client.answer()
        if client.banner.code >= 400:
            await self.hang_up()
            return "dropped"
        manners = self.manners
        tls = manners.tls == "always" or (manners.tls == "at first" and self.sessions == 1)
        said = (await client.hello(tls=tls)).text.split("\n")
        self.largest = next((int(line.split()[1]) for line in said if line.startswith("SIZE ")), 0)
        if "XOAUTH2" in provider.auth:
            answer = await client.ask(f"AUTH XOAUTH2 {bearer(USER, self.token)}")
        elif provider.auth:
            answer = await client.ask(f"AUTH PLAIN {encoded(f'{chr(0)}{USER}{chr(0)}password')}")
        else:
            return None
        if answer.code == 235:
            return None
        await self.hang_up()
        return "refused login"

    async def patiently(self, reply: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for a reply that may be held."""
        clock = self.fake.clock
        assert isinstance(clock, VirtualClock)
        began = clock.now()
        coming = asyncio.ensure_future(reply)
        while not coming.done():
            await asyncio.sleep(0)
            if self.fake.fake.waiting and not coming.done():
                if self.manners.hangs_up is not None and clock.now() >= began + self.manners.hangs_up:
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
                    raise TimeoutError
                await clock.advance(clock.now() + 1)
        return coming.result()

    async def hang_up(self) -> None:
        while self.open:
            await self.open.pop().close()


async def audited(provider: Provider, manners: Manners, seed: int = 1, rules: tuple[str, ...] = tuple(RULES)) -> Run:
    """Send a sender through the trials."""
    seen: dict[str, Seen] = {}
    for trial in trials(provider, rules):
        seen[trial.name] = await tried(provider, trial, manners, seed)
    return Run(provider, seen)


async def tried(provider: Provider, trial: Trial, manners: Manners, seed: int) -> Seen:
    faults = Faults.build({"faults": [dict(fault) for fault in trial.faults]}, seed=seed)
    async with running(provider.set(trial.limits), faults=faults) as fake:
        await Sender(fake, manners, seed, trial.stale).run()
        await fake.until_open(0)
        return Seen(tuple(fake.entries), fake.fake.sessions)
