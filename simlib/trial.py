"""How a mailer is audited: each trial starts a fake, runs the mailer against it, and keeps the ledger.

The fake is a process of its own for each trial, so that nothing is left over from the one before.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import psutil

from simlib.audit import DEFERRED_FOR, LASTS, LONG_ENOUGH, Run, Seen, Trial, trials
from simlib.provider import Provider

__all__ = ["Mailer", "Served", "audit"]

HOST: Final = "127.0.0.1"
USER: Final = "rep01@us.example"
PASSWORD: Final = "password"
PLACEHOLDER: Final = re.compile(r"\{(host|port|user|password|token|ca|refresh_token|token_url|control)\}")
POLL: Final = 0.05  # seconds between two looks at what runs
QUIET: Final = 30.0  # seconds of real time without a word after which somebody who connects by himself has finished
READY_WITHIN: Final = 30.0  # seconds
STDERR: Final = 2
ENDS_WITHIN: Final = 5.0  # seconds that a mailer has after SIGTERM

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Mailer:
    """What is audited, and how fast its day goes.

    Parameters
    ----------
    command : tuple of str
        The program and its arguments, with ``{host}`` and the like in them; empty: whoever connects is audited.
    time_scale : float
        Seconds of the provider in a real one, for a mailer whose waits are shortened as much.
    virtual : bool
        Whether the mailer moves the clock itself, by ``POST {control}/clock``.
    port : int
        Where the fake listens; 0 picks one, the same for all trials.
    """

    command: tuple[str, ...] = ()
    time_scale: float = 1.0
    virtual: bool = False
    port: int = 0

    @property
    def refreshes(self) -> bool:
        """Whether it is told a token, and how to get another."""
        every = " ".join(self.command)
        return "{token}" in every and ("{refresh_token}" in every or "{token_url}" in every)


@dataclass(frozen=True, slots=True)
class Served:
    """A fake that runs.

    Parameters
    ----------
    provider : str
        Whom it plays.
    port, control : int
        Where it listens, and its control port.
    ca, ledger : Path
        The authority's certificate, and the ledger.
    """

    provider: str
    port: int
    control: int
    ca: Path
    ledger: Path

    @property
    def url(self) -> str:
        """The control port's address."""
        return f"http://{HOST}:{self.control}"

    def get(self, path: str) -> Any:
        """Ask the control port for a JSON document."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=READY_WITHIN) as answer:
            return json.load(answer)

    def post(self, path: str, **form: str) -> Any:
        """Tell the control port something."""
        with urllib.request.urlopen(f"{self.url}{path}", urlencode(form).encode(), READY_WITHIN) as answer:
            return json.load(answer)

    def lines(self) -> tuple[dict[str, Any], ...]:
        """Return the ledger so far."""
        return tuple(json.loads(line) for line in self.ledger.read_text(encoding="utf-8").splitlines())

    def sessions(self) -> int:
        """Return how many connections were made."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=READY_WITHIN) as answer:
            found = re.search(r"^sendlab_connections_total\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0


def audit(
    provider: Provider,
    mailer: Mailer,
    rules: Sequence[str],
    serve: Sequence[str] = (),
    progress: Progress = lambda said: None,
) -> Run:
    """Send a mailer through the trials that some rules need.

    Parameters
    ----------
    provider : Provider
        The facts, with readings, amounts and date already chosen.
    mailer : Mailer
        What is audited.
    rules : sequence of str
        Ids of `simlib.audit.RULES`.
    serve : sequence of str
        Options of `sendlab serve` that make the fake the same provider.
    progress : callable
        Told what happens.

    Returns
    -------
    Run
        What is to be judged.

    Raises
    ------
    ValueError
        If the fake doesn't start, the command can't be run, or it never connects.
    """
    todo = [one for one in trials(provider, rules, mailer.time_scale) if not one.stale or mailer.refreshes]
    seen: dict[str, Seen] = {}
    port = mailer.port
    try:
        with tempfile.TemporaryDirectory(prefix="sendlab-audit-") as folder:
            for number, one in enumerate(todo, 1):
                progress(f"trial {number} of {len(todo)}, {one.name}: {one.happens}")
                with _serving(provider, one, mailer, Path(folder), port, serve) as served:
                    port = served.port
                    try:
                        ended = _run(mailer, one, served, progress)
                    finally:  # also when the rest is called off
                        seen[one.name] = Seen(served.lines(), served.sessions())
                if number == 1 and not seen[one.name].sessions:
                    raise ValueError(f"COMMAND never connected to {HOST}:{port}; it ended with {ended}")
    except KeyboardInterrupt:
        if not seen or mailer.command:
            raise
    return Run(provider, seen, 0.0 if mailer.virtual else mailer.time_scale)


@contextlib.contextmanager
def _serving(
    provider: Provider, one: Trial, mailer: Mailer, folder: Path, port: int, options: Sequence[str]
) -> Iterator[Served]:
    """Run the fake of a trial for as long as the block lasts."""
    faults, ca, ledger, log = (folder / name for name in ("faults.json", "ca.pem", f"{one.name}.jsonl", "fake.log"))
    faults.write_text(json.dumps({"faults": one.faults}), encoding="utf-8")
    command = [sys.executable, "-m", "fake_servers", provider.name, "--port", str(port), "--control-port", "0"]
    command += ["--ca", str(ca), "--ledger", str(ledger), "--faults", str(faults), *options]
    command += ["--clock", "virtual"] if mailer.virtual else ["--time-scale", repr(mailer.time_scale)]
    for id_, amount in one.limits.items():
        command += ["--limit", f"{provider.name}/{id_}={amount}"]
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first:
                said = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
                raise ValueError(said[-1].removeprefix("sendlab serve: "))
            found = json.loads(first)
            yield Served(provider.name, found["port"], found["control"], ca, ledger)
        finally:
            process.terminate()


def _filled(mailer: Mailer, one: Trial, served: Served) -> list[str]:
    """Return the command for a trial; everything in braces that isn't ours stays."""
    every = " ".join(mailer.command)
    values: Mapping[str, str] = {
        "host": HOST,
        "port": str(served.port),
        "user": USER,
        "password": PASSWORD,
        "token": _token(one, served) if "{token}" in every else "",
        "ca": str(served.ca),
        "refresh_token": USER,
        "token_url": f"{served.url}/token?provider={served.provider}",
        "control": served.url,
    }
    return [PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in mailer.command]


def _token(one: Trial, served: Served) -> str:
    """Return an access token, in a trial of that one that isn't good any more."""
    form = {"grant_type": "refresh_token", "refresh_token": USER, "provider": served.provider}
    try:
        token = str(served.post("/token", **form)["access_token"])
    except urllib.error.HTTPError:
        raise ValueError(f"COMMAND has {{token}}, but {served.provider} takes no tokens") from None
    if one.stale:
        served.post(f"/accounts/{USER}/revoke")
        served.post(f"/accounts/{USER}/restore")
    return token


def _run(mailer: Mailer, one: Trial, served: Served, progress: Progress) -> str:
    """Let the mailer do what it does until it has finished or the trial is over; return how it ended."""
    if not mailer.command:
        progress(
            f"  connect to {HOST}:{served.port}; user {USER}, password {PASSWORD}; the certificate's authority, new in "
            f"each trial, is in {served.ca}; it goes on when nothing was said for {_quiet(mailer, one):.0f} s"
        )
        _until_quiet(mailer, one, served)
        return "silence"
    try:
        # its words are no part of the answer
        process = subprocess.Popen(
            _filled(mailer, one, served), stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True
        )
    except OSError as error:
        raise ValueError(f"COMMAND can't be run: {mailer.command[0]}: {error.strerror}") from None
    until = time.monotonic() + LASTS / mailer.time_scale
    try:
        while process.poll() is None and not _is_over(mailer, served, until):
            time.sleep(POLL)
    finally:
        _end(process)
    return f"status {process.returncode}"


def _is_over(mailer: Mailer, served: Served, until: float) -> bool:
    """Whether a trial has taken as long as it may, by the clock that the mailer goes by."""
    if mailer.virtual:
        return bool(served.get("/state")["clock"]["seconds"] >= LASTS)
    return time.monotonic() >= until


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a mailer, with all that it has started."""
    started: list[psutil.Process] = []
    if process.poll() is None:
        started = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_WITHIN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for one in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def _quiet(mailer: Mailer, one: Trial) -> float:
    """Seconds of silence, in real time, after which nobody will come any more."""
    comes_again = one.faults and one.name != "rejected"
    return max(QUIET, (DEFERRED_FOR + LONG_ENOUGH) / mailer.time_scale if comes_again else 0.0)


def _until_quiet(mailer: Mailer, one: Trial, served: Served) -> None:
    """Wait for somebody to connect, and then until nothing was said for a while."""
    quiet, last, before = _quiet(mailer, one), time.monotonic(), (0, 0)
    while True:
        now = served.sessions(), served.ledger.stat().st_size
        if now != before or served.get("/waiting")["open"] or not now[0]:
            last, before = time.monotonic(), now
        if time.monotonic() >= last + quiet:
            return
        time.sleep(10 * POLL)
