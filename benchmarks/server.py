"""What a message costs the fake server, in CPU time, next to Postfix's smtp-sink under the same load."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from simlib.port import held_port

ROUNDS: Final = 5
LOADS: Final = (  # name, messages a round, what it is to smtp-source, the ratio that is aimed at
    ("20 sessions kept open, 1 kB", 6_000, ("-d", "-l", "1024"), 4.0),
    ("a connection per message, 1 kB", 2_000, ("-l", "1024"), 4.5),
    ("20 sessions kept open, 50 kB", 2_000, ("-d", "-l", "51200"), 1.0),
)
WITHOUT_UVLOOP: Final = "import sys; sys.modules['uvloop'] = None; from fake_servers.__main__ import main; main()"


class Server(NamedTuple):
    """A server that runs."""

    process: "subprocess.Popen[str]"
    port: int

    def cpu(self) -> float:
        """Return the CPU time it has used so far, user and system, in seconds."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # clock_getcpuclockid(3)

    def cost(self, messages: int, options: tuple[str, ...]) -> float:
        """Return the CPU seconds that it needs for a message."""
        before = self.cpu()
        source = ["smtp-source", "-s", "20", "-m", str(messages), *options]
        source += ["-M", "client.example", "-f", "from@us.example", "-t", "to@them.example", f"127.0.0.1:{self.port}"]
        subprocess.run(source, check=True)
        return (self.cpu() - before) / messages


@contextmanager
def fake(*start: str) -> Iterator[Server]:
    """Run generic-mx, limits and ledger on."""
    with TemporaryDirectory() as folder:
        options = ["generic-mx", "--port", "0", "--control-port", "0", "--ledger", str(Path(folder) / "ledger.jsonl")]
        with subprocess.Popen([sys.executable, *start, *options], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield Server(process, json.loads(process.stdout.readline())["port"])
            finally:
                process.terminate()


@contextmanager
def sink() -> Iterator[Server]:
    """Run smtp-sink, which takes everything and does nothing with it."""
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (
        held_port() as port,
        subprocess.Popen(["smtp-sink", *user, f"127.0.0.1:{port}", "1024"], text=True) as process,
    ):
        try:
            while not listens(port):
                time.sleep(0.01)
            yield Server(process, port)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ready() -> float:
    """Return the seconds from the start of a fake to the line that says it listens."""
    began = time.perf_counter()
    with fake("-m", "fake_servers"):
        return time.perf_counter() - began


def server_speed() -> None:
    """Print the server's CPU per message over smtp-sink's, measured in turns, and how long it takes to start."""
    started = sorted(ready() for _ in range(ROUNDS))
    print(f"server ready after {median(started):.2f} s ({started[0]:.2f} to {started[-1]:.2f}; aim: 0.5)")
    if not (shutil.which("smtp-source") and shutil.which("smtp-sink")):
        print("server: smtp-source and smtp-sink aren't here (Debian's package postfix has them)")
        return
    with sink() as other, fake("-m", "fake_servers") as uvloop, fake("-c", WITHOUT_UVLOOP) as asyncio:
        for name, messages, options, aim in LOADS:
            rounds = [[one.cost(messages, options) for one in (other, uvloop, asyncio)] for _ in range(ROUNDS)]
            ratios = sorted(mine / sinks for sinks, mine, _ in rounds)
            without = median(mine / sinks for sinks, _, mine in rounds)
            cost, sinks = (median(round[column] for round in rounds) * 1e6 for column in (1, 0))
            print(
                f"server, {name}: {median(ratios):.2f} times smtp-sink's CPU a message ({ratios[0]:.2f} to "
                f"{ratios[-1]:.2f}; aim: {aim}; {cost:.0f} µs over {sinks:.0f} µs; without uvloop {without:.2f} times)"
            )
