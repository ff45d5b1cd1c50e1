"""The command line: ``sendlab COMMAND``. What takes long to import is imported by the command that needs it."""

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 (fine), 1 (the verdict is no) or 2 (bad input, one line on stderr says what)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["serve"]:
        # the server's process is ours: its signals and its CPU time are its own
        os.execv(sys.executable, [sys.executable, "-m", "fake_servers", *given[1:]])
    parser = _parser()
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 0
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± is shown a question mark
    try:
        verdict = int(options.run(options))
        sys.stdout.flush()  # here, where a reader that has gone is no surprise
        return verdict
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has gone
        return 0
    except KeyboardInterrupt:
        print("\n" * sys.stderr.isatty() + "sendlab: interrupted; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    except ValueError as error:
        print(f"sendlab: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"sendlab: {where}{error.strerror or error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sendlab",
        description="Which channel takes our mail, how fast, and how sure is that? Simulates sending channels under "
        "the limits that their providers publish.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    compare = commands.add_parser(
        "compare",
        help="simulate every alternative of a scenario on the same mail",
        description="Simulates every alternative of a scenario file on the same mail, so many times, and says what is "
        "accepted, refused, held and late, each with a 95 %% interval.",
        epilog="example: sendlab compare notebooks/scenarios/team_day.toml --out out/demo",
    )
    compare.add_argument("scenario", metavar="SCENARIO", type=Path, help="the scenario file (TOML)")
    compare.add_argument("--replications", type=_count, default=20, metavar="N", help="runs of each alternative (20)")
    compare.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same output (1)")
    compare.add_argument("--jobs", type=_count, metavar="N", help="processes (as many as there are cores)")
    compare.add_argument(
        "--out", type=_folder, metavar="DIR", help="write summary.json, attempts.parquet and the plots here"
    )
    _facts_options(compare)
    compare.set_defaults(run=_compare)

    providers = commands.add_parser(
        "providers",
        help="the facts: limits and sentences, with sources and grades",
        description="Lists the providers, or the facts about one: every limit and sentence with its source, date and "
        "grade (A vendor's document or code, B real transcript, C quoted, D single claim, assumed).",
    )
    providers.add_argument("name", metavar="NAME", nargs="?", help="one provider")
    providers.add_argument("--stale", action="store_true", help="list facts past their review date; exit 1 if any")
    _facts_options(providers, readings=False)
    providers.set_defaults(run=_providers)

    commands.add_parser("serve", help="fake servers that answer as the providers do", add_help=False)

    lab = commands.add_parser("lab", help="open the notebooks in JupyterLab")
    lab.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=Path("notebooks"), help="where they are")
    lab.set_defaults(run=_lab)
    return parser


def _facts_options(parser: argparse.ArgumentParser, readings: bool = True) -> None:
    parser.add_argument("--as-of", type=_date, metavar="DATE", help="the date whose facts apply (the scenario's)")
    if readings:
        parser.add_argument(
            "--reading",
            action="append",
            default=[],
            type=_reading,
            metavar="LIMIT=NAME",
            help="where sources disagree, another reading: office365/messages-per-minute=reject (repeatable)",
        )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")


def _count(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    """Read a folder to write into: whether that is possible should be known before anything is simulated."""
    path = Path(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not text or not there.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, got {text!r}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"must be a folder that may be written to, got {text!r}")
    return path


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a date like 2026-12-01, got {text!r}") from None


def _reading(text: str) -> tuple[str, str]:
    limit, equals, name = text.partition("=")
    if not equals or "/" not in limit or not name:
        raise argparse.ArgumentTypeError(f"must look like office365/messages-per-minute=reject, got {text!r}")
    return limit, name


# The commands


def _compare(options: argparse.Namespace) -> int:
    from simlib.experiment import compare
    from simlib.report import comparison, conclusion, document, own_tenants, write
    from simlib.scenario import Scenario

    scenario = Scenario.load(options.scenario)
    if options.reading:
        scenario = scenario.replace(readings=dict(options.reading))
    with _progress("replications", options.json) as tell:
        result = compare(scenario, options.replications, options.seed, options.jobs, options.as_of, tell)
        found = document(result)
    written = write(result, options.out, found) if options.out else []
    if options.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    runs = "1 replication" if result.replications == 1 else f"{result.replications} replications"
    print(f"{scenario.name}: {runs}, seed {result.seed}, facts as of {result.as_of}")
    for tenant in own_tenants(result):
        offered = result.estimate(result.baseline, tenant, "offered")
        print(f"\n{tenant} offers {offered.mean:,.0f} messages; ± is half of a 95 % interval\n")
        print(_aligned(comparison(result, tenant)))
    print()
    print("\n".join(conclusion(result, found["one_off"])))
    if written:
        print("\nwritten: " + ", ".join(str(path) for path in written))
    return 0


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


@contextlib.contextmanager
def _progress(unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give something that shows progress on stderr, if anybody watches."""
    from tqdm import tqdm

    bar = tqdm(unit=f" {unit}", file=sys.stderr, disable=quiet or not sys.stderr.isatty(), leave=False)

    def tell(done: int, of: int) -> None:
        bar.total = of
        bar.update(done - bar.n)

    with bar:
        yield tell


def _providers(options: argparse.Namespace) -> int:
    from simlib.provider import Provider, names

    chosen = [Provider.load(name) for name in ([options.name] if options.name else names())]
    if options.as_of:
        chosen = [provider.on(options.as_of) for provider in chosen]
    if options.stale:
        return _stale(chosen, options)
    if options.json:
        facts = [provider.model_dump(mode="json", by_alias=True, exclude_unset=True) for provider in chosen]
        print(json.dumps(facts[0] if options.name else facts))
        return 0
    if not options.name:
        for provider in chosen:
            limits = ", ".join(f"{limit.id} {limit.limit or 'off'}" for limit in provider.limits)
            print(f"{provider.name:16}{provider.title}\n{'':16}{limits}")
        print("\nsendlab providers NAME shows the sources.")
        return 0
    provider = chosen[0]
    print(
        f"{provider.title}\n"
        f"{provider.role}, credential of {provider.credential}, AUTH {' '.join(provider.auth) or 'none'}"
    )
    if provider.note:
        print(provider.note)
    for limit in provider.limits:
        assumed = f"; assumed: {', '.join(limit.assumed)}" if limit.assumed else ""
        print(f"\n{provider.name}/{limit.id}: {limit.limit or 'off'} {limit.count} per {limit.per}")
        kind = f"{limit.window} window, " if limit.window else ""
        print(f"  {kind}counts {limit.counts}, {limit.on_excess} at {limit.at}{assumed}")
        if not limit.holds:
            reply = provider.refusal(limit)
            print(f"  says: {reply.code} {reply.enhanced} {reply.text}".replace("\n", " / "))
        print(f"  grade {limit.grade}, {limit.as_of}, review by {limit.review_by}: {limit.source}")
        for reading in limit.readings:
            print(
                f"  or, read as {reading['name']!r}: grade {reading['grade']}, {reading['as_of']}: {reading['source']}"
            )
    print("\nSentences:")
    for sentence in provider.replies:
        first = sentence.text.partition("\n")[0]
        print(
            f"  {sentence.when:16} {sentence.code} {sentence.enhanced} {first}\n"
            f"{'':19}grade {sentence.grade}, {sentence.as_of}: {sentence.source}"
        )
    return 0


def _stale(providers: Sequence[Any], options: argparse.Namespace) -> int:
    today = options.as_of or dt.datetime.now(dt.UTC).date()
    found = [
        {
            "provider": provider.name,
            "fact": getattr(fact, "id", getattr(fact, "when", "")),
            "review_by": str(fact.review_by),
        }
        for provider in providers
        for fact in (*provider.limits, *provider.replies)
        if fact.review_by and fact.review_by < today
    ]
    if options.json:
        print(json.dumps(found))
    else:
        for fact in found:
            print(f"{fact['provider']}/{fact['fact']}: to be reviewed by {fact['review_by']}")
        if not found:
            print(f"No fact is past its review date on {today}.")
    return 1 if found else 0


def _lab(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise ValueError(f"DIR: no such folder, got {str(options.folder)!r}")
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", *root, str(options.folder)])
