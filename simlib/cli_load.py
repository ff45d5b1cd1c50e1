"""`sendlab load`: a scenario's mail over real SMTP."""

import argparse
import json
from pathlib import Path
from typing import Any

from simlib import argument
from simlib.progress import progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `load` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["load", "day.toml", "--alternative", "Pool"]).processes
    1
    """
    load = commands.add_parser(
        "load",
        help="send a scenario's mail over real SMTP, with Locust",
        description="Sends what one alternative is offered, over real SMTP and on time, to fakes that it starts itself "
        "or to a target; says what was accepted, refused, held and late, and whether every message is accounted for. "
        "Exit 1 if the generator could not keep up, or the books do not balance. Passwords come from SENDLAB_PASSWORD.",
        epilog='example: sendlab load notebooks/scenarios/twin_hour.toml --alternative "SparkPost" --out out/load',
    )
    load.add_argument("scenario", metavar="SCENARIO", type=Path, help="the scenario file (TOML)")
    load.add_argument("--alternative", metavar="NAME", required=True, help="which of its alternatives")
    load.add_argument("--target", metavar="HOST:PORT", help="where to, instead of fakes; loopback only")
    load.add_argument("--allow-host", action="append", default=[], metavar="HOST", help="a target beyond loopback")
    load.add_argument("--ca", metavar="FILE", type=Path, help="the target's certificate authority, PEM (the system's)")
    load.add_argument("--through", metavar="RELAY", choices=("postfix",), help="postfix: a private one passes it on")
    load.add_argument(
        "--time-scale", type=argument.positive, metavar="X", help="scenario seconds in a real one (the file's)"
    )
    load.add_argument(
        "--processes",
        type=argument.count,
        default=1,
        metavar="N",
        help="load generators, at most one a queue (1)",
    )
    load.add_argument("--seed", type=argument.whole, default=1, metavar="N", help="same seed, same messages (1)")
    load.add_argument(
        "--out", type=argument.folder, metavar="DIR", help="keep plan, ledgers, record and Locust's tables here"
    )
    argument.facts_options(load)
    load.set_defaults(run=_load)


def _load(options: argparse.Namespace) -> int:
    from simlib.safety import checked

    target = checked(options.target, options.allow_host) if options.target else None
    if options.allow_host and target is None:
        raise ValueError("--allow-host names a target: give --target HOST:PORT, too")
    if options.ca and target is None:
        raise ValueError("--ca is about a target: give --target HOST:PORT, too; the fakes have their own")

    from simlib.load import load
    from simlib.measured import load_lines
    from simlib.scenario import Scenario

    scenario = Scenario.load(options.scenario).replace(readings=dict(options.reading))
    with argument.place(options.out) as folder, progress("messages", options.json) as tell:
        found = load(
            scenario,
            options.alternative,
            folder,
            seed=options.seed,
            time_scale=options.time_scale,
            target=target,
            ca=options.ca,
            through=options.through or "",
            processes=options.processes,
            as_of=options.as_of,
            progress=tell,
        )
        document = found.json()
        if options.out:
            (folder / "summary.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
            found.frame().to_parquet(folder / "attempts.parquet")
            _draw(found, folder)
    if options.json:
        print(json.dumps(document, allow_nan=False))
    else:
        print("\n".join(load_lines(found)))
        if options.out:
            print(f"\nwritten: {options.out}")
    balances = document["books"] is None or document["books"]["balances"]
    return 0 if found.counts and balances else 1


def _draw(found: Any, folder: Path) -> None:
    """Draw what happened in each minute to each tenant that is not a neighbour."""
    from simlib.plot import save, timeline

    for tenant in (one.name for one in found.scenario.tenants if not one.neighbour):
        summary = found.summaries[tenant]
        limits = {name: count for name, count in summary.refusals.items() if count}
        alone = len(limits) + len(summary.other_refusals) == 1  # else the plot would lay all refusals at one's door
        limit = max(limits, key=limits.__getitem__, default="") if alone or summary.numbers["held"] else ""
        figure = timeline(found.timeline(tenant), f"{found.alternative}: {tenant}, measured", limit)
        save(figure, folder / f"timeline-{tenant}.png")
