"""`sendlab validate`: whether simulation and real SMTP agree."""

import argparse
import json
from pathlib import Path
from typing import Any

from simlib import argument
from simlib.progress import progress

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `validate` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["validate", "hour.toml"]).tolerance
    0.01
    """
    validate = commands.add_parser(
        "validate",
        help="the twin run: do simulation and real SMTP agree?",
        description="Sends a scenario's mail over real SMTP, simulates the same mail with the times that were "
        "measured, and replays the simulation over TCP on a virtual clock. Exit 1 unless both agree.",
        epilog="example: sendlab validate notebooks/scenarios/twin_hour.toml",
    )
    validate.add_argument("scenario", metavar="SCENARIO", type=Path, help="the scenario file (TOML)")
    validate.add_argument(
        "--alternative",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one (repeatable; all that are SMTP)",
    )
    validate.add_argument(
        "--time-scale", type=argument.positive, metavar="X", help="scenario seconds in a real one (the file's)"
    )
    validate.add_argument(
        "--tolerance", type=_share, default=0.01, metavar="P", help="by what share counts and delays may differ (0.01)"
    )
    validate.add_argument("--seed", type=argument.whole, default=1, metavar="N", help="same seed, same messages (1)")
    validate.add_argument(
        "--out", type=argument.folder, metavar="DIR", help="keep summary, ledgers, record and plots here"
    )
    argument.facts_options(validate)
    validate.set_defaults(run=_validate)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, like 0.01, got {text!r}")
    return value


def _validate(options: argparse.Namespace) -> int:
    from simlib.measured import twin_lines
    from simlib.scenario import Scenario
    from simlib.validate import measurable, over_smtp, validate

    scenario = Scenario.load(options.scenario).replace(readings=dict(options.reading))
    chosen, left_out = over_smtp(scenario, options.alternative, options.as_of)
    if options.time_scale is None and not measurable(scenario):
        hours = f"{scenario.duration / 3600:g} h"
        left_out.append(f"the measured gate: it takes {hours} an alternative; --time-scale X makes it X times as fast")
    with argument.place(options.out) as folder, progress("", options.json) as tell:
        found = validate(
            scenario,
            folder,
            chosen,
            time_scale=options.time_scale,
            tolerance=options.tolerance,
            seed=options.seed,
            as_of=options.as_of,
            progress=lambda what, done, of: tell(done, of, what),
        )
        document = found.json()
        if options.out:
            from simlib.plot import residuals, save

            (folder / "summary.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
            for number, (name, twin) in enumerate(found.twins.items(), 1):
                twin.load.frame().to_parquet(folder / f"{number:02}" / "attempts.parquet")
                figure = residuals(twin.residuals(), name, scenario.zero, twin.once, options.tolerance)
                save(figure, folder / f"{number:02}" / "residuals.png")
    if options.json:
        print(json.dumps(document, allow_nan=False))
    else:
        print("\n".join(twin_lines(found, left_out)))
        if options.out:
            print(f"\nwritten: {options.out}")
    return 0 if found.agrees else 1
