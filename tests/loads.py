"""Load tests small enough for a suite: a scenario in which nothing depends on how fast the machine is, and servers."""

import json
import math
import select
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.reconcile import main as reconcile
from simlib.load import Load
from simlib.scenario import Scenario

SCALE = 20.0

# A minute and a half in which limits hold, refuse and defer, a password is changed and mended, and a message waits at
# the end; each at a moment that is at least ten seconds from the next.
MIXED = {
    "name": "a little of everything",
    "duration": "90s",
    "start": "2026-12-01T09:00+09:00",
    "deadline": "09:30",
    "tenants": [
        # 30 a minute pass, the other three are held, one on each connection
        {"name": "held", "senders": 1, "arrivals": {"kind": "batches", "first": "5s", "size": 33, "label": "burst"}},
        {
            "name": "refused",
            "senders": 2,
            "arrivals": [
                {"kind": "batches", "first": "5s", "size": 15},
                {"kind": "batches", "first": "40s", "size": 4},  # between password change and repair
                {"kind": "batches", "first": "60s", "size": 10},  # five more, then the limit
            ],
        },
        {"name": "deferred", "senders": 1, "recipients": 2, "arrivals": {"kind": "batches", "first": "5s", "size": 14}},
        {"name": "waiting", "senders": 1, "arrivals": {"kind": "batches", "first": "5s", "size": 3}},
        {
            "name": "oauth",
            "senders": 3,
            "arrivals": [{"kind": "batches", "first": at, "per_sender": 1} for at in ("5s", "40s", "70s")],
        },
    ],
    "alternatives": {
        "all": {
            "channels": [
                {"name": "office 365", "tenants": ["held"], "to": "office365", "connections": 3},
                {"name": "sparkpost", "tenants": ["refused"], "to": "sparkpost"},
                {
                    **{"name": "pool", "tenants": ["deferred"], "to": "google-mx", "ips": 2, "connections": 1},
                    **{"retry": ["20s"], "queue_lifetime": "59s"},
                },
                {"name": "patient", "tenants": ["waiting"], "to": "google-mx", "retry": ["10min"], "connections": 1},
                {"name": "gmail", "tenants": ["oauth"], "to": "gmail"},
            ]
        }
    },
    "limits": {"sparkpost/messages-per-day": "20/d", "google-mx/quota": "2/h"},
    "events": [
        {"kind": "password_change", "at": "25s", "tenant": "refused", "repaired_after": "25s"},
        {"kind": "token_revoked", "at": "25s", "tenant": "oauth", "senders": 1, "repaired_after": "25s"},
    ],
}


def mixed() -> Scenario:
    return Scenario.build(MIXED)


# What is due before one of these has to be over by then, or things happen in another order: a limit's window closes,
# passwords and tokens change and are mended, a second try is too late for a third, the run ends.
ORDER = {
    "held": (65.0,),
    "refused": (25.0, 50.0, 90.0),
    "deferred": (44.0, 90.0),
    "waiting": (90.0,),
    "oauth": (25.0, 50.0, 90.0),
}


def undisturbed(run: Callable[[], Load], order: Mapping[str, Sequence[float]]) -> Load:
    """Run a load test in which the order of things matters, and again if this machine stood still meanwhile.

    That order, by tenant, is the plan's if every attempt that is due before a moment has its reply before it, holds
    left out. Whether it had stands in the ledger; nothing that is expected of the run decides it.
    """
    for _ in range(10):
        found = run()
        if all(_in_time(row, order[row["tenant"]]) for row in found.rows):
            return found
    raise TimeoutError("in ten runs, this machine stood still for so long in each that things changed places")


def _in_time(row: dict[str, Any], moments: Sequence[float]) -> bool:
    by = min((moment for moment in moments if moment > row["due_at"]), default=math.inf)
    return row["ended_at"] is not None and row["ended_at"] - row["held"] < by


class Server(NamedTuple):
    """A fake in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    control: int

    def waiting(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control}/waiting", timeout=20) as answer:
            found: dict[str, int] = json.loads(answer.read())
            return found


@contextmanager
def serving(*arguments: object, port: int = 0) -> Iterator[Server]:
    """Run ``fake_servers`` with one provider."""
    command = [sys.executable, "-m", "fake_servers", *map(str, arguments), "--port", str(port), "--control-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = json.loads(process.stdout.readline())
            yield Server(process, line["port"], line["control"])
        finally:
            process.kill()


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a ledger."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Reconciled(NamedTuple):
    """What `sendlab reconcile --json` says."""

    code: int
    messages: dict[str, int]
    examples: dict[str, list[str]]


def reconciled(capsys: Any, clients: Sequence[Path], server: Path) -> Reconciled:
    capsys.readouterr()
    code = reconcile([*map(str, clients), "--server", str(server), "--json"])
    found = json.loads(capsys.readouterr().out)
    messages = {verdict: count for verdict, count in found["messages"].items() if count}
    return Reconciled(code, messages, {v: [one["message_id"] for one in some] for v, some in found["examples"].items()})


@contextmanager
def swallowing(port: int, chosen: set[str]) -> Iterator[int]:
    """Stand between clients and a server: the first reply to the text of each chosen message never arrives."""
    left = set(chosen)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def pass_on(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            said = b""
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is client:
                        said += data
                        server.sendall(data)
                        continue
                    _, _, text = said.partition(b"X-Sendlab-ID: ")
                    message_id = text.partition(b"\r\n")[0].decode()
                    if said.endswith(b"\r\n.\r\n") and message_id in left:
                        left.remove(message_id)
                        return  # the server has said what became of it; the client never hears of it
                    said = b""
                    client.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=quietly, args=(client,), daemon=True).start()

    def quietly(client: socket.socket) -> None:
        with suppress(OSError):
            pass_on(client)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
