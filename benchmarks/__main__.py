"""Run the benchmarks and print their figures; ratios come from one run, so that a busy machine doesn't matter much."""

import asyncio
import subprocess
import sys
import time
from statistics import median

import numpy as np
import simpy
from joblib import cpu_count
from simpy.events import ProcessGenerator

from benchmarks.books import measured, reconcile_speed
from benchmarks.client import client_cost
from benchmarks.long_run import long_run
from benchmarks.server import server_speed
from simlib.estimate import Estimate
from simlib.experiment import compare, run
from simlib.look import Asked, Look, looks
from simlib.processes import Pool
from simlib.scenario import Scenario

ROUNDS = 5


DAY = [{"kind": "business_day", "per_sender": 40}, {"kind": "batches", "first": "09:00", "per_sender": 40}]
"""40 messages a sender at nine, 40 spread over the day as in a real week."""


def office365(senders: int = 25, arrivals: list[dict[str, object]] = DAY, **channel: object) -> Scenario:
    """Return a day through Office 365, every limit on."""
    carried = {"name": "office 365", "tenants": ["team"], "to": "office365", **channel}
    return Scenario.build(
        {
            "name": "office 365",
            "start": "2026-12-01T00:00",
            "duration": "24h",
            "deadline": "17:30",
            "tenants": [{"name": "team", "senders": senders, "arrivals": arrivals}],
            "alternatives": {"Office 365": {"channels": [carried]}},
        }
    )


def events_per_second(events: int = 200_000) -> float:
    """Return how many timeouts one process gets through in a second: what SimPy itself costs."""

    def loop(env: simpy.Environment) -> ProcessGenerator:
        while True:
            yield env.timeout(1)

    env = simpy.Environment()
    env.process(loop(env))
    began = time.perf_counter()
    env.run(until=events)
    return events / (time.perf_counter() - began)


def attempts_per_second(scenario: Scenario) -> float:
    """Return how many attempts a second one run simulates, drawing the messages left out."""
    messages = scenario.messages(1, 0)
    began = time.perf_counter()
    attempts = run(scenario, "Office 365", messages=messages)
    return len(attempts.rows) / (time.perf_counter() - began)


def simulation_speed() -> None:
    """Print attempts/s over events/s, measured in turns."""
    full = office365(1, [{"kind": "batches", "first": "00:00", "size": 9000}], connections=3)
    for name, scenario in (
        ("full, 9,000 at once through one mailbox", full),
        ("a day of 250 senders, at once", office365(250, connections=3)),
        ("a day of 250 senders, as Sales Connect paces it", office365(250, tool="sales-connect")),
    ):
        pairs = [(attempts_per_second(scenario), events_per_second()) for _ in range(ROUNDS)]
        ratio = median(attempts / events for attempts, events in pairs)
        attempts, events = (median(column) for column in zip(*pairs, strict=True))
        print(
            f"simulation, Office 365, {name}: {ratio:.3f} attempts per SimPy event "
            f"({attempts:,.0f}/s over {events:,.0f}/s)"
        )


def answer_time() -> None:
    """Print how long a team's day takes: what somebody waits for an answer."""
    scenario = office365(tool="sales-connect")
    for replications in (20, 200):
        began = time.perf_counter()
        compare(scenario, replications=replications, jobs=1)
        took = time.perf_counter() - began
        print(
            f"a team's day (2,000 messages), {replications} replications: {took:.2f} s, "
            f"{took / replications * 1e3:.1f} ms each"
        )


def look_time() -> None:
    """Print how long the app simulates until it draws a channel: what moving a slider costs, the drawing left out.

    The aim is 300 ms as a person waits, with every processor free; CPU time says what one of them takes.
    """
    pool = Pool.shared(Look)

    async def answer(look: Look) -> None:
        async for day in pool.map(look.day, range(20)):
            look = look.having(day)

    while not pool.ready and cpu_count() > 1:
        asyncio.run(answer(looks(Asked())[0]))
    for asked in (Asked(group_email=0), Asked()):
        for look in looks(asked):
            waited, cpu = [], []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                asyncio.run(answer(look))
                waited.append(time.perf_counter() - began)
                began = time.process_time()
                for replication in range(20):
                    look.day(replication)
                cpu.append(time.process_time() - began)
            print(
                f"the app, {look.name}, {look.more().offered:,} messages, 20 replications without the drawing: "
                f"{min(waited) * 1e3:.0f} ms on {cpu_count()} processors, {min(cpu) * 1e3:.0f} ms of CPU in one process"
            )


def size_time() -> None:
    """Print what `sendlab size` takes for a typical question, from the command to its end: the aim is 5 seconds."""
    asked = ("--senders", "25", "--per-sender", "40", "--group-email", "1000", "--have", "office365=25,sparkpost")
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        cpu, _ = measured("-m", "simlib", "size", *asked)
        taken.append((time.perf_counter() - began, cpu))
    wall, cpu = (median(column) for column in zip(*taken, strict=True))
    print(f"size, 25 people, 40 messages each, a group e-mail, two channels: {wall:.1f} s ({cpu:.1f} s of CPU)")


MEMORY = """
import resource, sys
from benchmarks.__main__ import office365
from simlib.experiment import run
scenario = office365(int(sys.argv[1]), connections=3)
run(office365(10), "Office 365")
messages = scenario.messages(1, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
attempts = run(scenario, "Office 365", messages=messages)
print(len(attempts.rows), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def memory() -> None:
    """Print the bytes per attempt of a run of a million: the peak, the record and the queues included."""
    printed = subprocess.run([sys.executable, "-c", MEMORY, "12500"], capture_output=True, text=True, check=True).stdout
    attempts, size = map(int, printed.split())
    print(f"memory: {size / attempts:.0f} bytes per attempt at {attempts:,} attempts (peak, {size / 2**20:.0f} MiB)")


def coverage(studies: int = 2_000, replications: int = 20) -> None:
    """Print how often our 95 % intervals hold the true mean, for counts as skewed as ours."""
    rng = np.random.default_rng(20261201)
    for name, draw, truth in (
        ("Poisson counts, mean 1,000", lambda: rng.poisson(1000, replications), 1000.0),
        ("Poisson counts, mean 2", lambda: rng.poisson(2, replications), 2.0),
        ("exponential delays", lambda: rng.exponential(1.0, replications), 1.0),
        (
            "a share that is 0 in seven of ten runs",
            lambda: np.where(rng.random(replications) < 0.7, 0.0, rng.beta(2, 8, replications)),
            0.3 * 0.2,
        ),
    ):
        found = [Estimate.of(draw().tolist()) for _ in range(studies)]
        inside = sum(e.low is not None and e.high is not None and e.low <= truth <= e.high for e in found)
        print(
            f"coverage of 95 % intervals, {replications} replications, {name}: "
            f"{inside / studies:.1%} of {studies:,} studies"
        )


if __name__ == "__main__":
    simulation_speed()
    answer_time()
    look_time()
    size_time()
    memory()
    long_run()
    coverage()
    server_speed()
    client_cost()
    reconcile_speed()
