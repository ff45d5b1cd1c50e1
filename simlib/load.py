"""The load test: a scenario's mail over real SMTP, by Locust, against fakes or a target; and what came of it.

Fakes, Locust and a relay are processes of their own, so that nobody's clock or sockets are in another's way. They end
with the `with` block that started them.
"""

import contextlib
import datetime as dt
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil

from simlib import plan
from simlib.attempts import COLUMNS, Attempts
from simlib.channel import Lane, Route, routes
from simlib.port import held_port
from simlib.record import frame
from simlib.safety import Target
from simlib.scenario import Scenario
from simlib.sender import Ips
from simlib.summary import METRICS, Summary, summarize, timeline
from simlib.target import ask, greet
from simlib.workload import Messages, stream

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LATE_SHARE", "Fakes", "Load", "fakes", "load"]

LATE: Final = 0.05  # seconds of real time after which an attempt began late (DESIGN §10)
LATE_SHARE: Final = 0.05
"""The share of late attempts beyond which a run is no result."""
INBOX: Final = "generic-mx"  # takes the reports of a relay in between
OF_A_RELAY: Final = ("relay.jsonl", "queue.jsonl", "queue_length.jsonl")
QUEUES: Final = ("active", "deferred", "incoming", "hold")
QUANTILES: Final = ("delay_p50", "delay_p95", "delay_p99")
READY_WITHIN: Final = 30.0  # seconds that a process has to get ready
STAGES: Final = ("connect", "tls", "auth", "mail", "data")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fakes:
    """Fake servers that run.

    Parameters
    ----------
    ports : dict of str to int
        Where each provider listens, on 127.0.0.1.
    control : int
        The control port.
    ca, ledger : Path
        The authority's certificate, and the server ledger.
    """

    ports: dict[str, int]
    control: int
    ca: Path
    ledger: Path


@contextlib.contextmanager
def fakes(
    folder: Path,
    scenario: Scenario,
    providers: Sequence[str],
    as_of: dt.date | None = None,
    time_scale: float = 1.0,
    virtual: bool = False,
    inbox: bool = False,
    seed: int = 1,
) -> Iterator[Fakes]:
    """Run the fakes of a scenario in a process of their own, on free ports.

    Parameters
    ----------
    folder : Path
        Where ``scenario.json``, ``server.jsonl`` and ``ca.pem`` go.
    scenario : Scenario
        Its readings, amounts, start and accounts.
    providers : sequence of str
        Whom to be.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    time_scale : float
        The provider's seconds in a real one.
    virtual : bool
        Whether the clock is moved by hand instead.
    inbox : bool
        Whether there is to be one more fake, for reports to the senders (RFC 3464).
    seed : int
        Of what is random at the providers: which mail is complained about.

    Yields
    ------
    Fakes
        Running, until the block is left.

    Raises
    ------
    ValueError
        If they don't start; with what they said.
    """
    path, ledger, ca = folder / "scenario.json", folder / "server.jsonl", folder / "ca.pem"
    path.write_text(json.dumps(scenario.data, default=str), encoding="utf-8")
    for old in folder.glob("server*.jsonl"):
        old.unlink()
    command = [sys.executable, "-m", "fake_servers", *providers, "--scenario", str(path), "--ledger", str(ledger)]
    command += ["--port", "0", "--control-port", "0", "--ca", str(ca), "--seed", str(seed)]
    command += ["--clock", "virtual"] if virtual else ["--time-scale", repr(time_scale)]
    command += ["--as-of", as_of.isoformat()] if as_of else []
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(_process(command, folder / "fakes.log"))
        said = [_first_line(process, folder / "fakes.log") for _ in providers]
        if inbox:
            command = [sys.executable, "-m", "fake_servers", INBOX, "--port", "0", "--control-port", "0"]
            command += ["--ledger", str(folder / "server-inbox.jsonl")]
            reports = stack.enter_context(_process(command, folder / "inbox.log"))
            said.append(_first_line(reports, folder / "inbox.log"))
        found = [json.loads(line) for line in said]
        ports = {one["provider"]: one["port"] for one in reversed(found)}
        yield Fakes(ports, found[0]["control"], ca, ledger)


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process for as long as the block lasts, its stderr in a file."""
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            started = psutil.Process(process.pid).children(recursive=True)  # Locust's generators are its children
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(READY_WITHIN)
            process.kill()
            for one in psutil.wait_procs(started, timeout=1)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(started, timeout=READY_WITHIN)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        said = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
        raise ValueError(f"{Path(process.args[2]).name} didn't start: {said[-1]}")  # type: ignore[index, arg-type]
    return line


@dataclass(frozen=True)
class Load:
    """What a load test found.

    Parameters
    ----------
    scenario, alternative : Scenario, str
        What was sent how.
    as_of : date, optional
        The date whose facts applied.
    seed : int
        Of the messages: those of its replication 0.
    time_scale : float
        Scenario seconds in a real one.
    folder : Path
        Where the plan, the ledgers and Locust's tables are.
    through : str
        The relay in between; empty: none. What is accepted then is what the relay took.
    attempts : Attempts
        The record, as the simulation has it.
    rows : list of dict
        The lines of the client ledgers.
    notes : tuple of str
        A sentence on each thing that was not as the scenario has it.
    """

    scenario: Scenario
    alternative: str
    as_of: dt.date | None
    seed: int
    time_scale: float
    folder: Path
    through: str
    attempts: Attempts = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """What became of each tenant's messages."""
        return summarize(self.attempts, self.scenario, self.scenario.lanes(self.alternative, self.as_of))

    @property
    def late(self) -> float:
        """The share of attempts that began more than 50 ms of real time after they could have."""
        lags = [row["late"] for row in self.rows if row["late"] is not None]
        return sum(lag > LATE for lag in lags) / len(lags) if lags else 0.0

    @property
    def counts(self) -> bool:
        """Whether it is a result: the generator kept up with the plan (DESIGN §10)."""
        return self.late <= LATE_SHARE

    @property
    def rates(self) -> tuple[float, float]:
        """Offered and achieved, in messages per scenario second: both over the time from the first to the last due."""
        created = self.attempts.messages.created_at
        routed = sorted({int(message) for message in self.attempts["message"]})
        due = created[routed]
        if len(due) < 2 or due[-1] <= due[0]:
            return math.nan, math.nan
        ended = self.attempts["ended"][self.attempts["retry"] == 0]
        begun = self.attempts["started"][self.attempts["retry"] == 0]
        begun = np.sort(begun[~np.isnan(begun)])
        span = due[-1] - due[0]
        took = max(float(begun[-1] - due[0]), span) if len(ended) and len(begun) else math.inf
        return (len(due) - 1) / span, (len(begun) - 1) / took if len(begun) else 0.0

    def stages(self) -> dict[str, float]:
        """Return the mean of each stage, in seconds of real time, over the attempts that had it.

        Returns
        -------
        dict of str to float
            Seconds, by the stage's name.
        """
        means = {}
        for stage in STAGES:
            seconds = [row[stage] for row in self.rows if row[stage] > 0]
            means[stage] = float(np.mean(seconds)) if seconds else 0.0
        return means

    @cached_property
    def books(self) -> dict[str, Any] | None:
        """What `reconcile` says of the ledgers; None if no server wrote one.

        Raises
        ------
        ValueError
            If the ledgers can't be read as such.
        """
        servers = sorted(self.folder.glob("server*.jsonl"))
        clients = sorted(self.folder.glob("client*.jsonl"))
        if not servers or not clients:
            return None
        command = [sys.executable, "-m", "loadtests.reconcile", *map(str, clients), "--server", *map(str, servers)]
        queue = self.folder / "queue.jsonl"
        command += ["--queue", str(queue)] if queue.exists() else []
        ran = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        if ran.returncode not in (0, 1):
            raise ValueError(f"the ledgers can't be reconciled: {ran.stderr.strip()}")
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    @cached_property
    def relay(self) -> dict[str, Any] | None:
        """What became of the mail in the relay: counts, its own delays in seconds, its schedule; None: no relay."""
        if not self.through:
            return None
        rows = [row for row in lines(self.folder / "relay.jsonl") if row["channel"]]
        by_status: dict[str, int] = defaultdict(int)
        for row in rows:
            by_status[row["status"]] += 1
        last: dict[str, str] = {row["message_id"]: row["status"] for row in rows}
        deferred = {row["message_id"] for row in rows if row["status"] == "deferred"}
        delays = np.array([row["delays"] for row in rows if row["status"] == "sent" and row["delays"]]).reshape(-1, 4)
        samples = list(lines(self.folder / "queue_length.jsonl"))
        return {
            "attempts": dict(by_status),
            "passed_on": sum(status == "sent" for status in last.values()),
            "throttled": len(deferred),
            "retried": _retried(rows, self.time_scale),
            "bounced": sum(status in ("bounced", "expired") for status in last.values()),
            "in_queue": sum(1 for _ in lines(self.folder / "queue.jsonl")),
            "longest_queue": max((sum(one[name] for name in QUEUES) for one in samples), default=0),
            "delays": {
                name: {f"p{q}": float(np.quantile(delays[:, place], q / 100)) for q in (50, 95)}
                if len(delays)
                else None
                for place, name in enumerate(("before_queue_manager", "in_queue_manager", "connecting", "transmitting"))
            },
            "schedule": json.loads((self.folder / "schedule.json").read_text(encoding="utf-8")),
        }

    def table(self) -> "pd.DataFrame":
        """Return what became of the messages: one row a tenant, counts and delays in seconds.

        Returns
        -------
        DataFrame
            Counts in messages, delays in seconds.
        """
        import pandas as pd

        names = ("offered", "accepted", "rejected", "expired", "waiting", "throttled", *QUANTILES)
        rows = [
            {"tenant": tenant} | {name: summary.numbers[name] for name in names}
            for tenant, summary in self.summaries.items()
        ]
        return pd.DataFrame(rows)

    def timeline(self, tenant: str | None = None) -> "pd.DataFrame":
        """Return what happened in each minute, as `Result.timeline` does; see `plot.timeline`.

        Parameters
        ----------
        tenant : str, optional
            Whose messages; by default everybody's.

        Returns
        -------
        DataFrame
            A row a minute, in attempts per minute.
        """
        lanes = self.scenario.lanes(self.alternative, self.as_of)
        return timeline(self.attempts, self.scenario, lanes, tenant)

    def _repr_html_(self) -> str:
        from simlib import plot

        title = "What happened in each minute"
        table = str(self.table().to_html(index=False, float_format="{:,.6g}".format))
        return table + plot.img(plot.timeline(self.timeline(), title), title, "40em")

    def frame(self) -> "pd.DataFrame":
        """Return the record as a table (DESIGN §8).

        Returns
        -------
        DataFrame
            A row an attempt.
        """
        return frame(self.attempts, self.scenario.zero)

    def json(self) -> dict[str, Any]:
        """Return the document of the contract (`load --json`): as `compare --json`, without intervals.

        Returns
        -------
        dict
            What `json.dumps` takes.
        """
        tenants: dict[str, Any] = {}
        for tenant, summary in self.summaries.items():
            numbers: dict[str, Any] = {metric: _measured(summary.numbers[metric]) for metric in METRICS}
            if math.isnan(summary.numbers["delivered"]):
                numbers["delivered"] = None
            if self.scenario.deadline is None:
                numbers["on_time"] = None
            numbers["finished"] = {"probability": summary.numbers["finished"], "low": None, "high": None}
            numbers["refusals"] = {name: _measured(count) for name, count in summary.refusals.items()}
            numbers["other_refusals"] = {name: _measured(count) for name, count in summary.other_refusals.items()}
            total = sum(summary.bound_by.values())
            numbers["bound_by"] = {k: v / total for k, v in summary.bound_by.items() if v > 0} if total > 0 else {}
            tenants[tenant] = numbers
        lanes = self.scenario.lanes(self.alternative, self.as_of)
        offered, achieved = self.rates
        return {
            "scenario": self.scenario.name,
            "as_of": (self.as_of or self.scenario.date).isoformat(),
            "replications": 1,
            "seed": self.seed,
            "baseline": self.alternative,
            "time_scale": self.time_scale,
            "alternatives": {
                self.alternative: {
                    "ends_at": ", ".join(dict.fromkeys(lane.provider.name for lane in lanes)),
                    "tenants": tenants,
                }
            },
            "differences": {},
            "rests_on": self.scenario.rests_on([self.alternative], self.as_of),
            "readings": [],
            "random": self.scenario.random_parts(),
            "result": self.counts,
            "late": self.late,
            "offered_per_second": _finite(offered),
            "achieved_per_second": _finite(achieved),
            "stages": self.stages(),
            "books": None if self.books is None else {k: self.books[k] for k in ("balances", "messages")},
            "relay": self.relay,
            "notes": list(self.notes),
        }


def _retried(rows: Iterable[dict[str, Any]], time_scale: float) -> dict[str, Any]:
    """Return what a relay's schedule did to what was deferred: attempts each, and how long until it was passed on."""
    attempts: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["status"] != "expired":  # a line about a message that was given up, after its last attempt's
            attempts[row["message_id"], row["recipient"]].append(row)
    deferred = [some for some in attempts.values() if any(row["status"] == "deferred" for row in some)]
    waits = [(some[-1]["time"] - some[0]["time"]) * time_scale for some in deferred if some[-1]["status"] == "sent"]
    return {
        "attempts": sum(map(len, deferred)) / len(deferred) if deferred else None,
        "passed_on": len(waits),
        "after": {f"p{q}": float(np.quantile(waits, q / 100)) for q in (50, 95)} if waits else None,
    }


def _measured(value: float) -> dict[str, Any]:
    return {"mean": _finite(value), "low": None, "high": None, "random": False}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def load(
    scenario: Scenario,
    alternative: str,
    folder: Path,
    *,
    seed: int = 1,
    time_scale: float | None = None,
    target: Target | None = None,
    ca: Path | None = None,
    through: str = "",
    processes: int = 1,
    as_of: dt.date | None = None,
    progress: Progress | None = None,
) -> Load:
    """Send what an alternative is offered in replication 0, over SMTP.

    Parameters
    ----------
    scenario, alternative : Scenario, str
        What is sent how.
    folder : Path
        Where the plan, the ledgers and Locust's tables go; made if it isn't there.
    seed : int
        Of the messages.
    time_scale : float, optional
        Scenario seconds in a real one; the scenario's own by default. With a target it is 1.
    target : Target, optional
        Where to; by default fakes of the alternative's providers, started for this run. Where a provider wants TLS or a
        login, a target is asked what it offers (`target.ask`).
    ca : Path, optional
        The certificates to trust at a target (PEM); the system's by default.
    through : str
        ``postfix``: a private Postfix takes the mail and relays it to the fakes. It knows no `heed_quota`.
    processes : int
        How many generators at most; each takes whole queues, so no more are started than there are of these.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.
    progress : callable, optional
        Told how many messages are decided, of how many.

    Returns
    -------
    Load
        The record, and whether the generator kept up.

    Raises
    ------
    ValueError
        If there is no such alternative, a provider doesn't speak SMTP, a process doesn't start, or a target doesn't
        answer, or wants a password that it can't be trusted with.
    """
    if alternative not in scenario.alternatives:
        known = ", ".join(map(repr, scenario.alternatives))
        raise ValueError(f"unknown alternative {alternative!r} (there are: {known})")
    if target is not None and time_scale not in (None, 1.0):
        raise ValueError(f"time_scale must be 1 with a target, whose clock is its own, got {time_scale:g}")
    scale = 1.0 if target is not None else scenario.time_scale if time_scale is None else time_scale
    if not 0 < scale < math.inf:
        raise ValueError(f"time_scale must be above 0, got {scale:g}")
    lanes = scenario.lanes(alternative, as_of)
    providers = list(dict.fromkeys(lane.provider.name for lane in lanes))
    for lane in lanes:
        if lane.provider.transport != "smtp":
            raise ValueError(f"{lane.provider.name} speaks {lane.provider.transport.upper()}: no load over SMTP")
        if target is not None and lane.oauth:
            raise ValueError(
                f"{lane.provider.name} wants OAuth tokens, and a target has nowhere to ask for them: "
                "set auth = 'password' where the provider takes one, or leave the target out"
            )
    if through not in ("", "postfix"):
        raise ValueError(f"through must be 'postfix', got {through!r}")
    if through and target is not None:
        raise ValueError("through takes the mail to fakes of its own: give no target")
    asked = target is not None and any(map(plan.protected, lanes))
    if ca is not None and not asked:
        raise ValueError(
            f"ca is for a target that senders log in to, which nobody does in {alternative!r}: leave it out"
        )
    messages = scenario.messages(seed, 0)
    queues = sum(len(route.messages) > 0 for route in routes(lanes, messages)[1])
    processes = max(1, min(processes, queues))  # a queue is one process's: further ones would have nothing to do
    offer = ask(target, ca) if target is not None and asked else None
    if target is not None and not asked:
        greet(target)
    folder.mkdir(parents=True, exist_ok=True)
    of_before = (
        name for kind in ("client*.jsonl", "client*.underway", "server*.jsonl", "locust*") for name in folder.glob(kind)
    )
    for old in (*of_before, *(folder / name for name in OF_A_RELAY)):
        old.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        control, trusted, notes = "", str(ca.absolute()) if ca else "", tuple[str, ...]()
        if target is None:
            running = stack.enter_context(
                fakes(folder, scenario, providers, as_of, scale, inbox=bool(through), seed=seed)
            )
            where = {name: ("127.0.0.1", "127.0.0.1", port) for name, port in running.ports.items()}
            control, trusted = f"127.0.0.1:{running.control}", str(running.ca)
        else:
            where = dict.fromkeys(providers, (target.name, target.address, target.port))
            notes = (*(offer.notes if offer else ()), *_left_out(scenario, lanes, target, seed))
        if through:
            inbox = running.ports.get(INBOX)
            port = stack.enter_context(_relay(folder, scenario, lanes, where, trusted, scale, inbox))
            where = dict.fromkeys(providers, ("127.0.0.1", "127.0.0.1", port))
        plan.write(
            folder,
            scenario,
            alternative,
            messages,
            where,
            seed=seed,
            as_of=as_of,
            time_scale=scale,
            control=control,
            ca=trusted,
            through=bool(through),
            offer=offer,
        )
        until = time.monotonic() + scenario.duration / scale
        drive(folder, processes, progress)
        if through:
            _until_passed_on(folder, until)
    return replace(read(folder, scenario, alternative, messages, seed, scale, as_of, through), notes=notes)


def _left_out(scenario: Scenario, lanes: Sequence[Lane], target: Target, seed: int) -> Iterator[str]:
    """Yield a sentence on each thing of a scenario that only fakes on this machine can see or be told."""
    struck = Counter(one.kind for one, _ in scenario.incidents(lanes, lambda *name: stream(seed, 0, *name)))
    if struck:
        kinds = ", ".join(f"{count} {kind}" for kind, count in struck.items())
        yield f"Left out, since nobody can make them happen at a target: events ({kinds})."
    if not plan.sees_ips(target.address) and any(lane.channel.ips > 1 for lane in lanes):
        yield "All sessions went out from this machine's own address, though the channel has several IPs."


# A relay in between


def _relay_file(
    folder: Path, scenario: Scenario, lanes: Sequence[Lane], where: plan.Where, ca: str, scale: float, inbox: int | None
) -> Path:
    """Write down what the relay has to know; the password isn't in it."""
    channels = []
    addresses = {tenant.name: tenant.addresses(scenario.day) for tenant in scenario.tenants}
    nets = list(dict.fromkeys(lane.channel.name for lane in lanes))
    for lane in lanes:
        provider, tenants = lane.provider, lane.channel.tenants
        users = {
            address: address.lower() if provider.credential == "account" else address.rpartition("@")[2].lower()
            for tenant in tenants
            for address in addresses[tenant]
        }
        channels.append(
            {
                "name": lane.channel.name,
                "provider": provider.name,
                "host": where[provider.name][1],
                "port": where[provider.name][2],
                "connections": lane.connections,
                "messages_per_session": lane.messages_per_session,
                "ips": lane.channel.addresses(nets.index(lane.channel.name) + 1),
                "tls": provider.tls if provider.tls != "optional" else "none",
                "auth": provider.role == "submission" and bool(provider.auth),
                "senders": users,
                "domains": [f"{provider.name}.test"],
            }
        )
        if lane.oauth:
            raise ValueError(
                f"{provider.name}: Debian's Postfix can't log in with OAuth; set auth = 'password', or use Exim"
            )
    setup = {"channels": channels, "ca": ca, "time_scale": scale, "out": str(folder)}
    setup["inbox"] = {"host": "127.0.0.1", "port": inbox} if inbox else None
    path = folder / "relay.json"
    path.write_text(json.dumps(setup, indent=1), encoding="utf-8")
    return path


@contextlib.contextmanager
def _relay(folder: Path, *about: Any) -> Iterator[int]:
    """Run a private Postfix for as long as the block lasts, and yield its port."""
    path = _relay_file(folder, *about)
    command = [sys.executable, "-m", "loadtests.relay", str(path)]
    with _process(command, folder / "relay.log") as process:
        found = json.loads(_first_line(process, folder / "relay.log"))
        (folder / "schedule.json").write_text(json.dumps(found), encoding="utf-8")
        yield int(found["port"])
        assert process.stdin is not None
        process.stdin.close()  # it writes down what is left, and ends
        process.wait(READY_WITHIN)


def _until_passed_on(folder: Path, until: float) -> None:
    """Wait until the relay's queues are empty, as was seen twice since it has all mail, or the plan's time is up."""
    has_all = time.time()
    while time.monotonic() < until:
        last = [*lines(folder / "queue_length.jsonl")][-2:]
        if len(last) == 2 and all(one["unix"] > has_all and not any(one[name] for name in QUEUES) for one in last):
            return
        time.sleep(0.2)


def drive(folder: Path, processes: int = 1, progress: Progress | None = None) -> None:
    """Run Locust on a plan until every message's fate is known, or the plan's time is up."""
    spec = importlib.util.find_spec("loadtests")
    assert spec is not None
    assert spec.origin is not None
    locustfile = Path(spec.origin).with_name("locustfile.py")
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--plan", str(folder)]
    command += ["--csv", str(folder / "locust"), "--html", str(folder / "locust.html"), "--json-file"]
    command += [str(folder / "locust"), "--only-summary", "--exit-code-on-error", "0", "--loglevel", "WARNING"]
    of = (folder / "plan.jsonl").read_bytes().count(b"\n")
    log = folder / "locust.log"
    with held_port() as port, _process([*command, *_shared_out(processes, port)], log) as process:
        decided = _Decided(folder)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if progress is not None:
                progress(decided.count(), of)
    if process.returncode not in (0, -signal.SIGTERM):
        said = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
        # what `loadtests.user` says; Locust goes on talking after it
        ours = [line for line in said if line.startswith("locust: ")]
        raise ValueError(f"Locust ended with {process.returncode}: {(ours or said)[-1]} (see {log})")


def _shared_out(processes: int, port: int) -> list[str]:
    """Say to Locust that several processes generate, and where they meet."""
    if processes == 1:
        return []
    ours, number = "127.0.0.1", str(port)
    at = ["--master-host", ours, "--master-port", number, "--master-bind-host", ours, "--master-bind-port", number]
    return ["--processes", str(processes), *at]


class _Decided:
    """Counts the messages that are decided, by following the ledgers as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: dict[Path, int] = defaultdict(int)
        self.found = 0

    def count(self) -> int:
        for path in self.folder.glob("client*.jsonl"):
            with path.open("rb") as file:
                file.seek(self.read[path])
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self.read[path] += len(whole)
            self.found += whole.count(b'"final":true')
        return self.found


# From ledgers to the record


def read(
    folder: Path,
    scenario: Scenario,
    alternative: str,
    messages: Messages,
    seed: int = 1,
    time_scale: float = 1.0,
    as_of: dt.date | None = None,
    through: str = "",
) -> Load:
    """Put the ledgers of a run together.

    The client knows when and what; which limit held a reply and for how long, only the server's ledger knows, if there
    is one.
    """
    rows = [row for path in sorted(folder.glob("client*.jsonl")) for row in lines(path)]
    server = list(lines(folder / "server.jsonl")) if (folder / "server.jsonl").exists() else []
    if not through:
        _add_what_the_server_knows(rows, server)
    ips, found = routes(scenario.lanes(alternative, as_of), messages)
    unheard = {} if through else _unheard(rows, server)
    attempts = _attempts(rows, messages, ips, found, scenario.duration, unheard)
    return Load(scenario, alternative, as_of, seed, time_scale, folder, through, attempts, rows)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a ledger's lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _add_what_the_server_knows(rows: Iterable[dict[str, Any]], server: Iterable[dict[str, Any]]) -> None:
    """Match each attempt with the server's line about it: by message, else the n-th refusal with the n-th."""
    waiting: dict[tuple[Any, ...], deque[dict[str, Any]]] = defaultdict(deque)
    for line in server:
        waiting[_key(line, line["message_id"], line["mail_from"])].append(line)
    for row in sorted(rows, key=lambda row: math.inf if row["ended_at"] is None else row["ended_at"]):
        if not row["stage"]:
            continue
        same = waiting.get(_key(row, row["message_id"], row["sender"]))
        if same:
            line = same.popleft()
            row["limit"], row["held"] = line["limit"], line["held"]


def _unheard(rows: Iterable[dict[str, Any]], server: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how often the server accepted a message whose reply to the dot never came, by message."""
    told: dict[str, int] = defaultdict(int)
    lost: set[str] = set()
    for row in rows:
        told[row["message_id"]] += 200 <= row["code"] < 300
        if row["code"] == 0 and row["stage"] == "EOD":
            lost.add(row["message_id"])
    taken: dict[str, int] = defaultdict(int)
    for line in server:
        taken[line["message_id"]] += 200 <= line["code"] < 300
    return {id_: taken[id_] - told[id_] for id_ in lost if taken[id_] > told[id_]}


def _key(line: dict[str, Any], message_id: str, mail_from: str) -> tuple[Any, ...]:
    if line["stage"] == "EOD":
        return line["provider"], message_id
    if line["stage"] in ("MAIL", "RCPT", "DATA"):
        return line["provider"], line["stage"], mail_from, line["code"], line["text"]
    return line["provider"], line["stage"], line["ip"], line["code"], line["text"]


def _attempts(
    rows: Sequence[dict[str, Any]],
    messages: Messages,
    ips: Sequence[str],
    found: Sequence[Route],
    duration: float,
    unheard: Mapping[str, int],
) -> Attempts:
    number = {id_: position for position, id_ in enumerate(messages.ids())}
    address = {ip: position for position, ip in enumerate(ips)}
    kinds: dict[tuple[str, int, str, str, str, str], int] = {}
    table = np.full((len(rows), len(COLUMNS)), math.nan)
    for position, row in enumerate(
        sorted(rows, key=lambda row: math.inf if row["started_at"] is None else row["started_at"])
    ):
        ended = math.nan if row["ended_at"] is None or row["ended_at"] > duration else row["ended_at"]
        code = 0 if math.isnan(ended) else row["code"]
        said = ("", "") if math.isnan(ended) else (row["enhanced"], row["text"])
        kind = kinds.setdefault((row["provider"], code, *said, row["stage"], row["limit"]), len(kinds))
        table[position] = (
            number[row["message_id"]],
            row["route"],
            row["session"],
            row["transaction"],
            address.get(row["ip"], -1),
            row["retry"],
            row["due_at"],
            *(math.nan if row[name] is None else row[name] for name in ("released_at", "started_at")),
            ended,
            row["held"],
            kind,
            row["final"] and not math.isnan(ended),
        )
    queues = tuple((route.lane.channel.name, route.lane.provider.name, route.account) for route in found)
    slowed = tuple(_slowed(rows, found, address))
    known = {number[id_]: copies for id_, copies in unheard.items()}
    return Attempts(messages, table, tuple(kinds), queues, tuple(ips), slowed, known)


def _slowed(
    rows: Iterable[dict[str, Any]], found: Sequence[Route], address: Mapping[str, int]
) -> Iterator[tuple[int, float, float]]:
    """Tell each IP's reaction again how its messages ended, and yield while it was slowed, with the queue's number."""
    ended = sorted((row for row in rows if row["ended_at"] is not None), key=lambda row: row["ended_at"])
    for number, route in enumerate(found):
        turns = Ips(len(route.ips), route.lane.connections, route.lane.reaction, route.lane.throttles)
        for row in ended if turns.gates else ():
            if row["route"] == number:
                position = address.get(row["ip"], route.ips[0]) - route.ips[0]
                turns.end(position, row["started_at"], row["ended_at"], row["code"], row["stage"], row["limit"])
        for episode in turns.slowed():
            yield number, *episode
