"""`sendlab compare`: simulate every alternative of a scenario on the same mail."""

import argparse
import contextlib
import json
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simlib import argument
from simlib.progress import progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `compare` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["compare", "day.toml"]).replications
    20
    """
    compare = commands.add_parser(
        "compare",
        help="simulate every alternative of a scenario on the same mail",
        description="Simulates every alternative of a scenario file on the same mail, so many times, and says what is "
        "accepted, refused, held and late, each with a 95 % interval.",
        epilog="example: sendlab compare notebooks/scenarios/team_day.toml --out out/demo",
    )
    compare.add_argument("scenario", metavar="SCENARIO", type=Path, help="the scenario file (TOML)")
    compare.add_argument(
        "--replications", type=argument.count, default=20, metavar="N", help="runs of each alternative (20)"
    )
    compare.add_argument("--seed", type=argument.whole, default=1, metavar="N", help="same seed, same output (1)")
    compare.add_argument("--jobs", type=argument.count, metavar="N", help="processes (as many as there are cores)")
    compare.add_argument(
        "--out", type=argument.folder, metavar="DIR", help="write summary.json, attempts.parquet and the plots here"
    )
    compare.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME=A,B,C",
        help="what if an assumption were another, and where the conclusion flips: a limit's amount, as in "
        "google-mx/quota=500/h,1000/h, or a key of the file, as in tenants.us.senders=10,25 (twice: both at a time); "
        "best is who gets most mail through by the deadline, without one within an hour",
    )
    compare.add_argument(
        "--capacity",
        action="store_true",
        help="also search for the largest steady rate of each channel, at most 1 %% refused and 95 %% within 15 "
        "minutes (takes a while)",
    )
    argument.facts_options(compare)
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from simlib.experiment import compare
    from simlib.report import document
    from simlib.scenario import Scenario

    scenario = Scenario.load(options.scenario).replace(readings=dict(options.reading))
    axes = _axes(options.sweep, scenario) if options.sweep else []
    kept = _beside(options.out) if options.out else contextlib.nullcontext()
    with kept as folder:
        with progress("replications", options.json) as tell:
            keep = Path(folder) if folder else None
            result = compare(scenario, options.replications, options.seed, options.jobs, options.as_of, tell, keep)
            found = document(result)
        return _compared(options, result, found, axes)


def _beside(out: Path) -> "tempfile.TemporaryDirectory[str]":
    """Return a folder for what is needed only meanwhile, on the disk of the results: there is room for them."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return tempfile.TemporaryDirectory(prefix=".sendlab-", dir=there, ignore_cleanup_errors=True)


def _compared(options: argparse.Namespace, result: Any, found: dict[str, Any], axes: Any) -> int:
    """Sweep and search if asked to, write, and tell."""
    from simlib.report import WIDTH, comparison, conclusion, own_tenants, write

    swept = None
    if axes:
        from simlib.sweep import sweep

        with progress("comparisons", options.json) as tell:
            swept = sweep(result, axes, tell)
        found["sweep"] = swept.json()
    capacities: dict[str, dict[str, Any]] = {}
    if options.capacity:
        from simlib.capacity import capacities_of

        with progress("channels", options.json) as tell:
            capacities = capacities_of(result, tell)
        for name, channels in capacities.items():
            found["alternatives"][name]["capacity_per_hour"] = {key: one.json() for key, one in channels.items()}
    written = write(result, options.out, found, swept.figures() if swept else {}) if options.out else []
    if options.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    runs = "1 replication" if result.replications == 1 else f"{result.replications} replications"
    print(f"{result.scenario.name}: {runs}, seed {result.seed}, facts as of {result.as_of}")
    for tenant in own_tenants(result):
        offered = result.estimate(result.baseline, tenant, "offered")
        print(f"\n{tenant} offers {offered.mean:,.0f} messages; ± is half of a 95 % interval\n")
        print(_aligned(comparison(result, tenant)))
    print()
    print("\n".join(conclusion(result, found["one_off"])))
    if capacities:
        print(
            "\nLargest steady rate, in messages an hour, with at most 1 % refused and 95 % accepted within 15 minutes:"
        )
        for name, channels in capacities.items():
            print("\n".join(f"  {name}: {one}" for one in channels.values()))
    if swept is not None:
        print()
        for line in swept.lines():
            print(textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    if written:
        print("\nwritten: " + ", ".join(str(path) for path in written))
    return 0


def _axes(asked: Sequence[str], scenario: Any) -> Any:
    """Read what is to be assumed; whether it can be should be known before anything is simulated."""
    from simlib.sweep import Axis, assume

    axes = [Axis.parse(text) for text in asked]
    assume(scenario, axes)
    return axes


def _aligned(table: Any) -> str:
    """Lay a table of text out, numbers to the right."""
    columns = [[str(name), *map(str, table[name])] for name in table.columns]
    texts = [any(cell[:1].isalpha() or cell.startswith("  ") for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, texts, strict=True)
        ).rstrip()
        for row in rows
    )
