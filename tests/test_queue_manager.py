"""Postfix's queue manager: held against what its README publishes, and against a Postfix of one's own.

The seeds were written before the first run.
"""

import math
import re
import shutil
import smtplib
import socketserver
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, stdev
from threading import BoundedSemaphore, Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postfix import PASSING_ON, missing, postfix
from scipy.special import stdtrit

from simlib.queue_manager import Backoff, Destination, Feedback, deliver
from simlib.tool import Tool

needs_postfix = pytest.mark.skipif(bool(missing()), reason=missing())

STYLES = ("1/concurrency", "1/sqrt_concurrency", "1")
PUBLISHED = {"1/concurrency": 0.165, "1/sqrt_concurrency": 0.245, "1": 0.497}
"""SCHEDULER_README, "Impact of active server concurrency limiter", no connection caching."""
PUBLISHED_WINDOW = {"1/concurrency": (5.17, 0.38), "1/sqrt_concurrency": (5.28, 0.45)}
"""The same table: the client's concurrency, mean and standard deviation."""


# Feedback


def destination(style: str, **more: bool) -> Destination:
    return Destination(positive=Feedback.parse(style), negative=Feedback.parse(style), **more)


def feed(one: Destination, *ends: str) -> list[int]:
    """Let deliveries end, as many always under way as allowed, and return the window after each."""
    windows = []
    for end in ends:
        while one.start():
            pass
        (one.succeeded if end == "ok" else one.failed)()
        windows.append(one.window)
    return windows


def test_a_success_of_one_lets_one_more_in_up_to_the_limit() -> None:
    assert feed(Destination(limit=7), "ok", "ok", "ok", "ok") == [6, 7, 7, 7]


def test_positive_feedback_takes_effect_at_the_end_of_a_cohort() -> None:
    assert feed(destination("1/concurrency"), *["ok"] * 6) == [5, 5, 5, 5, 6, 6]


def test_negative_feedback_takes_effect_at_the_beginning_of_a_cohort() -> None:
    ends = ["ok"] * 5 + ["failed"] * 3 + ["ok"] * 6
    assert feed(destination("1/concurrency"), *ends)[4:] == [6, 5, 5, 5, 5, 5, 5, 5, 6, 6]


def test_feedback_that_is_over_counts_towards_the_next_step() -> None:
    """By 1/sqrt(N): 2 x 0.5 makes 5, 3 x 0.447 makes 6 and leaves 0.342, so that 2 x 0.408 are enough for 7."""
    one = Destination(initial=4, positive=Feedback.parse("1/sqrt_concurrency"), rounded=False)
    assert feed(one, *["ok"] * 7) == [4, 5, 5, 5, 6, 6, 7]


def test_a_failure_sets_successes_back() -> None:
    ends = ["ok"] * 4 + ["failed"] + ["ok"] * 5
    assert feed(destination("1/concurrency"), *ends) == [5, 5, 5, 5, 4, 4, 4, 4, 5, 5]


def test_a_destination_dies_of_a_cohort_of_failures_and_not_of_one_less() -> None:
    one = Destination(positive=Feedback(0.0), negative=Feedback(0.0))
    assert feed(one, *["failed"] * 4, "ok", *["failed"] * 4) == [5] * 9
    assert feed(one, "failed") == [0]
    assert one.dead
    assert not one.start()


def test_a_destination_without_a_cohort_limit_never_dies() -> None:
    assert feed(Destination(failed_cohort_limit=0), *["failed"] * 20)[-1] == 1


def test_a_dead_destination_that_resumes_has_no_feedback_left() -> None:
    one = Destination(initial=2, positive=Feedback(0.4), rounded=False)
    feed(one, "ok", "ok", "failed", "failed", "failed")
    assert (one.dead, one.success) == (True, 0.0)
    one.success, one.failure = 0.4, 0.4  # of deliveries that ended meanwhile
    one.resume()
    assert (one.success, one.failure) == (0.0, 0.0)


def test_what_is_left_when_a_destination_is_found_dead_is_deferred() -> None:
    course = deliver(Destination(initial=4), 50, 0, lambda: 0.001, lambda: 1.0)
    assert (course.delivered, course.deferred) == (0, 50)


def test_what_is_as_old_as_the_lifetime_is_tried_once_more() -> None:
    """It is given up when it is older, not as old."""
    assert list(Backoff(lifetime=300.0, queue_run_delay=0).tries()) == [0.0, 300.0, 600.0]
    assert list(Backoff(lifetime=299.0, queue_run_delay=0).tries()) == [0.0, 300.0]


def test_a_dead_destination_that_resumes_begins_with_what_is_under_way() -> None:
    one = Destination(negative=Feedback(0.0))
    feed(one, *["failed"] * 5)
    assert (one.window, one.busy) == (0, 4)
    one.resume()
    assert one.window == 4
    feed(one, *["failed"] * 4)
    for _ in range(one.busy):
        one.failed()
    one.resume()
    assert one.window == 5


def test_the_window_keeps_near_what_is_under_way() -> None:
    one = Destination(initial=2)
    assert one.start()
    assert one.start()
    for _ in range(2):  # nothing more waits
        one.succeeded()
    assert one.window == 3


@given(st.sampled_from(STYLES), st.lists(st.booleans(), max_size=100), st.booleans())
def test_the_window_stays_between_one_and_its_limit(style: str, ends: list[bool], rounded: bool) -> None:
    one = destination(style, rounded=rounded)
    for window in feed(one, *("ok" if end else "failed" for end in ends)):
        assert 0 <= window <= 20
        assert one.dead == (one.window == 0)


@pytest.mark.parametrize("wrong", ["", "x", "1/0", "2", "1/other", "-1"])
def test_a_feedback_is_as_main_cf_has_it(wrong: str) -> None:
    with pytest.raises(ValueError, match="feedback must"):
        Feedback.parse(wrong)


# The published measurement


def published(style: str, seed: int, rounded: bool) -> tuple[float, float, float]:
    """Repeat SCHEDULER_README's run: client limit 20, begun with 5, server limit 5, 2,000 recipients by twos, 1 s each.

    It publishes no other times; assumed are 2 ms a step of a connection, and 20 ms a delivery beyond its 2 s, both
    exponential.
    """
    rng = np.random.default_rng(seed)
    course = deliver(
        destination(style, rounded=rounded),
        deliveries=1000,
        server_limit=5,
        handshake=lambda: float(rng.exponential(0.002)),
        latency=lambda: 2 + float(rng.exponential(0.02)),
    )
    assert course.delivered + course.deferred == 1000
    return course.deferred_share, course.window_mean, course.window_sd


def of_one_run(samples: list[float], rounding: float) -> tuple[float, float]:
    """Where another run lies with 99.9 %, if it is published rounded (Geisser 1993: prediction of a normal)."""
    half = stdtrit(len(samples) - 1, 0.9995) * stdev(samples) * math.sqrt(1 + 1 / len(samples)) + rounding
    return fmean(samples) - half, fmean(samples) + half


@pytest.mark.parametrize("style", STYLES)
def test_the_published_share_is_deferred(style: str) -> None:
    low, high = of_one_run([published(style, seed, rounded=False)[0] for seed in range(701, 721)], 0.0005)
    assert low <= PUBLISHED[style] <= high


@pytest.mark.parametrize("style", PUBLISHED_WINDOW)
def test_the_published_concurrency_is_allowed(style: str) -> None:
    runs = [published(style, seed, rounded=False) for seed in range(701, 721)]
    for value, samples in zip(PUBLISHED_WINDOW[style], list(zip(*runs, strict=True))[1:], strict=True):
        low, high = of_one_run(list(samples), 0.005)
        assert low <= value <= high


@pytest.mark.parametrize("style", STYLES)
def test_the_share_is_near_the_theoretical_one(style: str) -> None:
    """SCHEDULER_README: 1 / (1 + roundup(1 / feedback)); missed only by what the last deliveries no longer cause."""
    every = 1 + math.ceil(1 / Feedback.parse(style).at(5))
    shares = [published(style, seed, rounded=False)[0] for seed in range(701, 721)]
    assert 1 / every - 6 / 1000 <= fmean(shares) <= 1 / every


# The schedule


def test_tries_are_the_published_ones() -> None:
    tries = list(islice(Backoff(queue_run_delay=0).tries(), 8))
    assert tries == [0, 300, 600, 1200, 2400, 4800, 8800, 12800]
    habit = Tool.load("postfix").habits[0].schedule
    assert habit is not None
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == [habit.delays[min(number, len(habit.delays) - 1)] for number in range(7)]
    assert habit.lifetime == Backoff().lifetime


@given(st.floats(0, 300), st.floats(0, 100))
def test_the_queue_run_adds_less_than_its_delay_to_each_wait(first_run: float, took: float) -> None:
    one = Backoff()
    for before, at in islice(pairwise(one.tries(first_run, took)), 12):
        due_at = one.due_at(0, before + took)
        assert due_at <= at + 1e-6
        assert at < due_at + one.queue_run_delay + 1e-6


def test_what_has_expired_is_tried_no_more() -> None:
    assert list(Backoff(queue_run_delay=0, lifetime=1000).tries()) == [0, 300, 600, 1200]


# Against a Postfix of one's own

LATENCY = 0.2
LATER = {"minimal_backoff_time": "3s", "maximal_backoff_time": "6s", "queue_run_delay": "3s"}
WINDOW = re.compile(
    r"qmgr_queue_(un)?throttle: queue \S+: limit 20 (window \d+ success \S+ failure \S+ fail_cohorts \S+)"
)


@dataclass
class Server:
    """A mailbox provider's MX: what it has taken, whom it turned away, and when it put mail off, in seconds."""

    port: int = 0
    taken: int = 0
    turned_away: int = 0
    put_off: list[float] = field(default_factory=list)


@contextmanager
def serving(connections: int, puts_off: bool = False) -> Iterator[Server]:
    """Take mail on loopback, slowly, over so many connections at once; or put off every recipient."""
    seen = Server()
    room = BoundedSemaphore(connections)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if not room.acquire(blocking=False):
                seen.turned_away += 1
                self.wfile.write(b"421 too many connections\r\n")
                return
            try:
                self.wfile.write(b"220 mx.example\r\n")
                self.talk()
            finally:
                room.release()

        def talk(self) -> None:
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"RCPT" and puts_off:
                    seen.put_off.append(time.time())
                    self.wfile.write(b"450 4.2.0 later\r\n")
                elif verb == b"DATA" and puts_off:
                    self.wfile.write(b"503 5.5.1 no recipients\r\n")
                elif verb == b"DATA":
                    self.wfile.write(b"354 go ahead\r\n")
                    while self.rfile.readline() not in (b".\r\n", b""):
                        pass
                    time.sleep(LATENCY)
                    seen.taken += 1
                    self.wfile.write(b"250 ok\r\n")
                else:
                    self.wfile.write(b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        seen.port = server.server_address[1]
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield seen
        finally:
            server.shutdown()


def passing_on(server: Server, **settings: str) -> dict[str, str]:
    return {
        "mynetworks": "127.0.0.0/8",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtpd_sasl_auth_enable": "no",
        "default_transport": f"smtp:[127.0.0.1]:{server.port}",
        **settings,
    }


def submit(port: int, recipients: int) -> float:
    """Hand one message over, and return when it was in the queue."""
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=30) as client:
        to = [f"to{number}@them.example" for number in range(recipients)]
        assert client.sendmail("us@us.example", to, "Subject: hello\r\n\r\nhello\r\n") == {}
        return time.time()


def until(holds: Callable[[], bool], within: float = 60.0) -> float:
    """Wait for something, and return for how long this machine stood still meanwhile, at most."""
    looked = time.monotonic()
    deadline, stood_still = looked + within, 0.0
    while not holds():
        assert looked < deadline, "waited in vain"
        time.sleep(0.02)
        before, looked = looked, time.monotonic()
        stood_still = max(stood_still, looked - before)
    return stood_still


@needs_postfix
@pytest.mark.parametrize("style", ["1/concurrency", "1"])
def test_the_window_is_a_real_postfixs_after_each_delivery(
    style: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Postfix logs how each delivery ended and what it made of that; deliveries that end so make the same of ours.

    When it began the next ones isn't logged, and some may end before: how many were under way is whatever fits.
    """
    feedback = {f"smtp_destination_concurrency_{sign}_feedback": style for sign in ("positive", "negative")}
    settings = {
        "destination_concurrency_feedback_debug": "yes",
        "smtp_destination_recipient_limit": "2",
        "smtp_connection_cache_on_demand": "no",
        **feedback,
    }
    with serving(connections=5) as server, readable() as log:
        settings |= {"maillog_file": str(log), "maillog_file_prefixes": str(log.parent)}
        with postfix(passing_on(server, **settings), {}, PASSING_ON) as port:
            submit(port, recipients=200)
            until(lambda: server.taken + server.turned_away == 100)
            until(lambda: len(WINDOW.findall(log.read_text())) == 100)
        ends = WINDOW.findall(log.read_text())
    fits = [destination(style)]
    for ended, (went_well, told) in enumerate(ends):
        found = [after(one, bool(went_well)) for one in under_way(fits, len(ends) - ended)]
        fits = [one for one in found if state(one) == told]
        assert fits, f"delivery {ended + 1}: {told}, and ours: {set(map(state, found))}"
    assert server.turned_away == sum(not went_well for went_well, _ in ends)


def under_way(before: Iterable[Destination], left: int) -> list[Destination]:
    """What a destination may be like once some more deliveries, or none, have begun; one of each number under way."""
    found = {one.busy: one for one in before}
    for one in [*found.values()]:
        more = copy(one)
        while more.busy < left and more.start():
            found[more.busy] = copy(more)
    return [one for busy, one in found.items() if busy]


def after(one: Destination, went_well: bool) -> Destination:
    (one.succeeded if went_well else one.failed)()
    return one


def state(one: Destination) -> str:
    """As Postfix logs it."""
    feedback = f"success {one.success:g} failure {one.failure:g}"
    return f"window {one.window} {feedback} fail_cohorts {one.failed_cohorts:g}"


@contextmanager
def readable() -> Iterator[Path]:
    """Give a file in a folder that the user postfix may write to."""
    with tempfile.TemporaryDirectory(prefix="log-") as folder:
        shutil.chown(folder, "postfix")
        yield Path(folder) / "mail.log"


@needs_postfix
def test_a_real_postfix_tries_again_when_the_schedule_says() -> None:
    seconds = {name: float(value.removesuffix("s")) for name, value in LATER.items()}
    ours = Backoff(*seconds.values())
    with serving(connections=5, puts_off=True) as server, postfix(passing_on(server, **LATER), {}, PASSING_ON) as port:
        created_at = submit(port, recipients=1)
        stood_still = until(lambda: len(server.put_off) == 4)
    for before, at in pairwise(server.put_off):
        assert -ours.queue_run_delay <= at - ours.due_at(created_at, before) <= ours.queue_run_delay + stood_still
