"""What it costs to reconcile a million messages, next to only reading their ledgers with the standard library."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

ROUNDS: Final = 3
MESSAGES: Final = 1_000_000
JSON: Final = """
import json, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)
"""


def write(folder: Path, messages: int) -> tuple[str, str]:
    """Write ledgers of messages that were all delivered, as a generator and the fakes write them."""
    client, server = folder / "client.jsonl", folder / "server.jsonl"
    said = {"stage": "EOD", "code": 250, "enhanced": "2.0.0", "text": "OK <a@us.example> [Hostname=A.example]"}
    said |= {"limit": "", "held": 0.0}
    stages = dict.fromkeys(("connect", "tls", "auth", "mail", "data"), 0.0012345)
    with client.open("w") as sent, server.open("w") as taken:
        for number in range(messages):
            name, rep, at = f"us-{number}", f"rep{number % 250:02}@us.example", number * 0.0361234
            both = {"provider": "office365", "ip": "127.0.1.1", "recipients": 1, "bytes": 20000, "message_id": name}
            times = dict.fromkeys(("created_at", "due_at", "released_at", "started_at", "ended_at", "late"), at)
            more = {"label": "ordinary", "tenant": "us", "sender": rep, "route": 1, "retry": 0, "final": True}
            sent.write(f"{json.dumps({**both, **more, **times, **said, **stages})}\n")
            row = {"time": at, "session": number // 20, "account": rep, "mail_from": rep, **both, **said}
            taken.write(f"{json.dumps(row)}\n")
    return str(client), str(server)


def measured(*command: str) -> tuple[float, int]:
    """Return the CPU seconds of a process, and the bytes that it needed at most."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {' '.join(command)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def reconcile_speed() -> None:
    """Print what the books of a million messages cost."""
    with TemporaryDirectory() as folder:
        client, server = write(Path(folder), MESSAGES)
        pairs = [
            (measured("-m", "loadtests.reconcile", client, "--server", server), measured("-c", JSON, client, server))
            for _ in range(ROUNDS)
        ]
    ratio = median(ours[0] / read[0] for ours, read in pairs)
    seconds, size = (median(column) for column in zip(*(ours for ours, _ in pairs), strict=True))
    print(
        f"reconcile, {MESSAGES:,} messages (as many lines on each side): {ratio:.2f} of what json.loads alone takes "
        f"({seconds:.1f} s of CPU), {size / MESSAGES:.0f} bytes a message"
    )
