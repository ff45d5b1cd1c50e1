"""What a message costs the load generator, in CPU time, next to Postfix's smtp-source, both against smtp-sink."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.server import Server, sink

ROUNDS: Final = 5
CONNECTIONS: Final = 20
SIZE: Final = 1024  # bytes
LOADS: Final = (  # name, messages (few, many), messages per session, what it is to smtp-source, the ratio aimed at
    ("20 sessions kept open", (200, 6_200), None, ("-d",), 3.5),
    ("a connection per message", (200, 3_200), 1, (), 3.0),
)


def client_cost() -> None:
    """Print the generator's CPU time per message over smtp-source's, in turns; ledger and Locust's tables on."""
    if shutil.which("smtp-sink") is None and not Path("/usr/sbin/smtp-sink").exists():
        print("client: smtp-sink is missing (apt-get install postfix)")
        return
    for name, (few, many), per_session, options, aim in LOADS:
        with sink() as server:
            pairs = [
                (_generator(server, few, many, per_session), _source(server, few, many, options)) for _ in range(ROUNDS)
            ]
        ratio = median(ours / theirs for ours, theirs in pairs)
        ours, theirs = (median(column) * 1e6 for column in zip(*pairs, strict=True))
        print(
            f"client, {name}: {ratio:.2f} of smtp-source's CPU, aim {aim:g} ({ours:.0f} over {theirs:.0f} µs a message)"
        )


def _marginal(few: int, many: int, cost: Any) -> float:
    """Return the CPU seconds of one more message: what a process needs to start is left out."""
    return float((cost(many) - cost(few)) / (many - few))


def _generator(server: Server, few: int, many: int, per_session: int | None) -> float:
    return _marginal(few, many, lambda messages: _locust(server, messages, per_session))


def _source(server: Server, few: int, many: int, options: tuple[str, ...]) -> float:
    def cost(messages: int) -> float:
        command = ["smtp-source", "-s", str(CONNECTIONS), "-m", str(messages), "-l", str(SIZE), *options]
        command += [
            "-M",
            "client.example",
            "-f",
            "from@us.example",
            "-t",
            "to@them.example",
            f"127.0.0.1:{server.port}",
        ]
        return _cpu(command)

    return _marginal(few, many, cost)


def _locust(server: Server, messages: int, per_session: int | None) -> float:
    with TemporaryDirectory() as name:
        _write_plan(Path(name), server.port, messages, per_session)
        locustfile = Path(__file__).parents[1] / "loadtests" / "locustfile.py"
        command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--plan", name]
        used = _cpu([*command, "--only-summary", "--loglevel", "ERROR", "--exit-code-on-error", "0"])
        sent = (Path(name) / "client.jsonl").read_bytes().count(b'"code":250')
        if sent != messages:
            raise SystemExit(f"client: {sent} of {messages} messages were accepted: no figure")
        return used


def _write_plan(folder: Path, port: int, messages: int, per_session: int | None) -> None:
    lane = {"channel": "sink", "provider": "sink", "host": "127.0.0.1", "address": "127.0.0.1", "port": port}
    lane |= {"tls": False, "auth": "", "ips": [], "connections": CONNECTIONS, "by_account": False, "pace": None}
    lane |= {"messages_per_session": per_session, "retry": {"delays": [], "lifetime": None}, "timeout": 600.0}
    lane |= {"sentences": [], "heeds": []}
    run = {"duration": 600.0, "time_scale": 1.0, "control": "", "ca": "", "lanes": [lane], "incidents": []}
    run["routes"] = [{"lane": 0, "account": "", "connections": CONNECTIONS}]
    (folder / "run.json").write_text(json.dumps(run))
    line = {"due": 0.0, "mail_from": "from@us.example", "rcpt_to": ["to@them.example"], "bytes": SIZE, "route": 0}
    line |= {"tenant": "us", "label": ""}
    lines = (json.dumps({**line, "message_id": f"us-{number}"}) for number in range(messages))
    (folder / "plan.jsonl").write_text("".join(f"{one}\n" for one in lines))


def _cpu(command: list[str]) -> float:
    """Run a command, and return the CPU seconds that it used."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"client: {command[0]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime
