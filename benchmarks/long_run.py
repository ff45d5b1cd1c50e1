"""What sixty days of a pool cost: six million messages simulated, summarized and written a day at a time."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pandas as pd

from simlib.experiment import days
from simlib.record import frame, write
from simlib.scenario import Scenario
from simlib.summary import Tally

POOL: Final = Path(__file__).parents[1] / "notebooks" / "scenarios" / "pool_60_days.toml"
NAME: Final = "Shared pool"


def measured(duration: str, path: Path) -> dict[str, float]:
    """Run it once for so long and write its record; return attempts, messages, CPU seconds and the peak in bytes."""
    scenario = Scenario.load(POOL).replace(duration=duration)
    tally = Tally(scenario, scenario.lanes(NAME))
    attempts, began = 0, time.process_time()

    def parts() -> Iterator[pd.DataFrame]:
        nonlocal attempts
        for part in days(scenario, NAME):
            tally.add(part)
            attempts += len(part.rows)
            yield frame(part, scenario.zero)
            if sys.stderr.isatty():
                print(f"\r{scenario.name}: day {part.messages.created_at.max() / 86400:.0f}", end="", file=sys.stderr)

    write(parts(), path, {"scenario": scenario.name})
    offered = sum(one.numbers["offered"] for one in tally.summaries().values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"attempts": attempts, "offered": offered, "seconds": time.process_time() - began, "peak": peak}


def long_run(whole: str = "60d", part: str = "6d") -> None:
    """Print what the whole takes, and a tenth of it: the time should be ten times as long, and the memory the same."""
    found = []
    with TemporaryDirectory() as folder:
        for duration in (part, whole):
            path = Path(folder) / f"{duration}.parquet"
            command = [sys.executable, "-m", "benchmarks.long_run", duration, str(path)]
            found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        size = path.stat().st_size
    few, all_ = found
    longer, bigger = (all_[name] / few[name] for name in ("seconds", "peak"))
    print(
        f"{whole} of a pool, {all_['offered']:,.0f} messages, {all_['attempts']:,.0f} attempts, written as Parquet "
        f"({size / 2**20:.0f} MiB): {all_['seconds']:.0f} s of CPU, {longer:.1f} times those of {part}; "
        f"{all_['peak'] / 2**20:.0f} MiB at its peak, {bigger:.2f} times theirs"
    )


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
