"""The command line: ``sendlab COMMAND``. What takes long to import is imported by the command that needs it."""

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from simlib import argument

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 (fine), 1 (the verdict is no) or 2 (bad input, one line on stderr says what).

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's, without the program; by default the process's own.

    Returns
    -------
    int
        The exit code.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["serve"]:
        # the server's process is ours: its signals and its CPU time are its own
        os.execv(sys.executable, [sys.executable, "-m", "fake_servers", *given[1:]])
    if given[:1] == ["reconcile"]:
        os.execv(sys.executable, [sys.executable, "-m", "loadtests.reconcile", *given[1:]])
    parser = _parser()
    passed: list[str] = []
    if given[:1] in (["lab"], ["app"], ["audit"]) and "--" in given:
        given, passed = given[: given.index("--")], given[given.index("--") + 1 :]
    options = parser.parse_args(given, argparse.Namespace(passed=passed))
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
    except (ValueError, OSError) as error:
        return argument.bad_input(parser.prog, error)


def _parser() -> argparse.ArgumentParser:
    parser = argument.Parser(
        prog="sendlab",
        description="Which channel takes our mail, how fast, and how sure is that? Simulates sending channels under "
        "the limits that their providers publish.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=argument.Parser)

    compare = commands.add_parser(
        "compare",
        help="simulate every alternative of a scenario on the same mail",
        description="Simulates every alternative of a scenario file on the same mail, so many times, and says what is "
        "accepted, refused, held and late, each with a 95 % interval.",
        epilog="example: sendlab compare notebooks/scenarios/team_day.toml --out out/demo",
    )
    compare.add_argument("scenario", metavar="SCENARIO", type=Path, help="the scenario file (TOML)")
    compare.add_argument("--replications", type=_count, default=20, metavar="N", help="runs of each alternative (20)")
    compare.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same output (1)")
    compare.add_argument("--jobs", type=_count, metavar="N", help="processes (as many as there are cores)")
    compare.add_argument(
        "--out", type=_folder, metavar="DIR", help="write summary.json, attempts.parquet and the plots here"
    )
    compare.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME=A,B,C",
        help="what if an assumption were another, and where the conclusion flips: a limit's amount, as in "
        "google-mx/quota=500/h,1000/h, or a key of the file, as in tenants.us.senders=10,25 (twice: both at a time)",
    )
    compare.add_argument(
        "--capacity",
        action="store_true",
        help="also search for the largest steady rate of each channel, at most 1 %% refused and 95 %% within 15 "
        "minutes (takes a while)",
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
    commands.add_parser("reconcile", help="what became of every message, from the ledgers", add_help=False)

    _load_parser(commands)
    _validate_parser(commands)
    _size_parser(commands)
    _audit_parser(commands)

    _import_parser(commands)
    _learn_parser(commands)

    lab = commands.add_parser(
        "lab",
        help="open the notebooks in JupyterLab",
        description="Opens the notebooks in JupyterLab, on loopback and with a token. Into a folder that lacks them, "
        "notebooks, scenarios and data are unpacked first; a file that is there is never overwritten.",
        epilog="What follows -- goes to JupyterLab: sendlab lab my-notebooks -- --port=9999",
    )
    lab.add_argument(
        "folder", metavar="DIR", nargs="?", type=_folder, help="where (a checkout's notebooks, else sendlab-notebooks)"
    )
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--json", action="store_true", help="one JSON document on stdout when it is ready: url, folder")
    lab.set_defaults(run=_lab)

    app = commands.add_parser(
        "app",
        help="ask which channel with sliders, in a browser and without code",
        description="Opens the app: sliders for senders, volume, group e-mail, deadline, pace and retry, and an answer "
        "that is simulated while they move. On loopback and with a token.",
        epilog="What follows -- goes to Voila: sendlab app -- --port=9999",
    )
    app.add_argument("--lang", choices=("en", "ja"), default="en", help="the language it opens in (en)")
    app.add_argument("--no-browser", action="store_true", help="only print the address")
    app.add_argument("--json", action="store_true", help="one JSON document on stdout when it is ready: url")
    app.set_defaults(run=_app)
    return parser


def _load_parser(commands: Any) -> None:
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
    load.add_argument("--processes", type=_count, default=1, metavar="N", help="load generators (1)")
    load.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same messages (1)")
    load.add_argument("--out", type=_folder, metavar="DIR", help="keep plan, ledgers, record and Locust's tables here")
    _facts_options(load)
    load.set_defaults(run=_load)


def _validate_parser(commands: Any) -> None:
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
    validate.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same messages (1)")
    validate.add_argument("--out", type=_folder, metavar="DIR", help="keep summary, ledgers, record and plots here")
    _facts_options(validate)
    validate.set_defaults(run=_validate)


def _size_parser(commands: Any) -> None:
    size = commands.add_parser(
        "size",
        help="which channels are done by a deadline, and what to type into the tool",
        description="Says for each channel how probable it is that everything is accepted by the deadline, how many "
        "mailboxes or IPs are enough, how much it takes, what to type into the tool, who has to do what, and whether "
        "the answer depends on a fact that sources disagree about. Exit 1 if no channel reaches the confidence. "
        "All messages are offered at the start, as a campaign does.",
        epilog="A price file (TOML) has `currency`, `days_a_month` and a table [channels.NAME] each, with any of "
        "per_mailbox, per_ip, per_month (a month each), per_thousand (messages) and once. "
        "example: sendlab size --senders 25 --per-sender 40 --group-email 1000 --have office365=25,sparkpost",
    )
    size.add_argument("scenario", metavar="SCENARIO", nargs="?", type=Path, help="a scenario file instead of numbers")
    size.add_argument("--senders", type=_count, metavar="N", help="people who send")
    size.add_argument("--per-sender", type=_count, metavar="M", help="messages each")
    size.add_argument("--group-email", type=_seed, metavar="K", help="people who get a group e-mail by one of them (0)")
    size.add_argument("--start", type=_clock, metavar="HH:MM", help="when sending starts (09:00)")
    size.add_argument("--deadline", type=_clock, metavar="HH:MM", help="when all has to be accepted (17:30)")
    size.add_argument(
        "--confidence", type=_confidence, default=0.95, metavar="P", help="how sure that has to be (0.95)"
    )
    size.add_argument("--have", type=_have, metavar="LIST", help="what the team has: office365=25,sparkpost")
    size.add_argument("--tool", metavar="NAME", help="the application that sends (sales-connect)")
    size.add_argument("--prices", type=Path, metavar="FILE", help="what channels cost (TOML, see below)")
    size.add_argument("--lang", choices=("en", "ja"), default="en", help="language of the answer and the card (en)")
    size.add_argument("--card", type=_file, metavar="FILE.html", help="write the answer as one page for the team")
    size.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same answer (1)")
    _facts_options(size)
    size.set_defaults(run=_size)


def _import_parser(commands: Any) -> None:
    import_ = commands.add_parser(
        "import",
        help="a trace and the replies from your own log",
        description="Reads a mail server's or a service's log and writes trace.csv, which a scenario replays, and "
        "replies.csv, which `sendlab learn` reads. Addresses are replaced by keyed hashes; the key is made for this "
        "one import and kept by nobody. Exit 1 if there are lines that could not be read; they are listed.",
        epilog="example: sendlab import /var/log/mail.log --format postfix --zone Asia/Tokyo --out imported",
    )
    import_.add_argument(
        "logs", metavar="LOG", nargs="+", type=Path, help="the log, oldest file first; .gz is unpacked"
    )
    import_.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        choices=("postfix", "exim", "kumomta", "ses", "sparkpost", "csv"),
        help="postfix, exim, kumomta, ses, sparkpost or csv",
    )
    import_.add_argument(
        "--out", type=_folder, default=Path("imported"), metavar="DIR", help="where to write (imported)"
    )
    import_.add_argument("--keep-addresses", action="store_true", help="leave the addresses as they are")
    import_.add_argument(
        "--zone", type=_zone, default=dt.UTC, metavar="NAME", help="zone of times that name none (UTC)"
    )
    import_.add_argument(
        "--year", type=_count, metavar="N", help="the first line's year where dates have none (by the file's own date)"
    )
    import_.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    import_.set_defaults(run=_import)


def _learn_parser(commands: Any) -> None:
    learn = commands.add_parser(
        "learn",
        help="which limits a provider has, from its replies",
        description="Reads timestamped replies and says which limits they show: the window, the amount with its "
        "interval, what counts and what the log can't tell apart. Exit 1 if for some refusals there is not enough to "
        "say which limit it is.",
        epilog="A table is CSV (time,code and any of took, setup, provider, session, ip, account, mail_from, "
        "recipients, bytes, stage, enhanced, text) or a ledger (.jsonl). What --out writes can be simulated: "
        '[providers] my-relay-observed = "my-relay-observed.toml" in a scenario.',
    )
    learn.add_argument("replies", metavar="REPLIES", type=Path, help="what `sendlab import` writes, or a ledger")
    learn.add_argument("--provider", metavar="NAME", help="only this one of those in the table")
    learn.add_argument("--out", type=_folder, metavar="DIR", help="write NAME-observed.toml here")
    learn.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    learn.set_defaults(run=_learn)


def _audit_parser(commands: Any) -> None:
    audit = commands.add_parser(
        "audit",
        help="how your own mailer behaves at a provider when things go wrong",
        usage="%(prog)s PROVIDER [options] [-- COMMAND ARGUMENT...]",
        description="Runs COMMAND, your mailer, against a fake of the provider: once while all is well, and once for "
        "each thing that goes wrong (deferred, refused, reply lost, connection dropped, 421, too large, token expired, "
        "quota). Gives a verdict for each rule, with the lines of the server's ledger that show it; what a run could "
        "not test is not tested, never passed. Exit 1 if a rule fails.",
        epilog="In COMMAND, {host} {port} {user} {password} {token} {ca} are filled in, and {refresh_token} "
        "{token_url} {control}. It should send half a dozen messages or more, each with a Message-ID, and last as long "
        "as its mail does. Without COMMAND, whoever connects is audited; a trial ends when it has gone quiet, the "
        "audit with Ctrl-C. example: sendlab audit office365 -- python mailer.py --host {host} --port {port} --ca {ca}",
    )
    audit.add_argument("provider", metavar="PROVIDER", help="whose fake (see `sendlab providers`)")
    audit.add_argument("--rules", type=_rules, metavar="LIST", help="only these: backoff,storm (all)")
    audit.add_argument(
        "--clock", choices=("wall", "virtual"), default="wall", help="virtual: COMMAND moves it, POST {control}/clock"
    )
    audit.add_argument(
        "--time-scale",
        type=argument.positive,
        metavar="X",
        help="provider's seconds in a real one, if COMMAND hurries so (1)",
    )
    audit.add_argument(
        "--port", type=argument.port, default=0, metavar="N", help="where the fake listens (any free port)"
    )
    audit.add_argument(
        "--limit",
        action="append",
        default=[],
        type=argument.amount,
        metavar="LIMIT=AMOUNT",
        help="an account's own amount: office365/messages-per-minute=100/min, or off (repeatable)",
    )
    _facts_options(audit)
    audit.set_defaults(run=_audit)


def _facts_options(parser: argparse.ArgumentParser, readings: bool = True) -> None:
    parser.add_argument(
        "--as-of", type=argument.date, metavar="DATE", help="the date whose facts apply (the scenario's)"
    )
    if readings:
        parser.add_argument(
            "--reading",
            action="append",
            default=[],
            type=argument.reading,
            metavar="LIMIT=NAME",
            help="where sources disagree, another reading: office365/messages-per-minute=reject (repeatable)",
        )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")


def _rules(text: str) -> list[str]:
    from simlib.audit import RULES

    rules = text.split(",")
    unknown = next((rule for rule in rules if rule not in RULES), None)
    if unknown is not None:
        raise argparse.ArgumentTypeError(f"unknown rule {unknown!r} (there are: {', '.join(RULES)})")
    return rules


def _zone(text: str) -> dt.tzinfo:
    """Read a zone: a name such as Asia/Tokyo, or an offset such as +09:00."""
    from zoneinfo import ZoneInfo

    with contextlib.suppress(ValueError):
        offset = dt.datetime.fromisoformat(f"2000-01-01T00:00{text}").tzinfo
        if offset is not None:
            return offset
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise argparse.ArgumentTypeError(f"must be a zone like Asia/Tokyo or +09:00, got {text!r}") from None


def _count(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, like 0.01, got {text!r}")
    return value


def _folder(text: str) -> Path:
    """Read a folder to write into: whether that is possible should be known before anything is simulated."""
    path = Path(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not text or not there.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, got {text!r}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"must be a folder that may be written to, got {text!r}")
    return path


def _file(text: str) -> Path:
    """Read a file to write: whether that is possible should be known before anything is simulated."""
    path = Path(text)
    if not text or path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists, got {text!r}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that may be written to, got {text!r}")
    return path


def _clock(text: str) -> str:
    try:
        dt.time.fromisoformat(text if len(text) == len("09:00") and ":" in text else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time like '17:30', got {text!r}") from None
    return text


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and less than 1, like 0.95, got {text!r}")
    return value


def _have(text: str) -> dict[str, int | None]:
    """Read ``office365=25,sparkpost``: what the team has, and how many mailboxes or IPs of it."""
    found: dict[str, int | None] = {}
    for part in text.split(","):
        name, equals, count = part.strip().partition("=")
        if not name or name in found:
            what = "names something twice" if name else "has an empty entry"
            raise argparse.ArgumentTypeError(f"{what}: must look like office365=25,sparkpost, got {text!r}")
        found[name] = _whole(count, 1) if equals else None
    return found


# The commands


def _compare(options: argparse.Namespace) -> int:
    from simlib.experiment import compare
    from simlib.report import document
    from simlib.scenario import Scenario

    scenario = Scenario.load(options.scenario)
    if options.reading:
        scenario = scenario.replace(readings=dict(options.reading))
    axes = _axes(options.sweep, scenario) if options.sweep else []
    kept = _beside(options.out) if options.out else contextlib.nullcontext()
    with kept as folder:
        with _progress("replications", options.json) as tell:
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
    from simlib.report import comparison, conclusion, own_tenants, write

    swept = None
    if axes:
        from simlib.sweep import sweep

        with _progress("comparisons", options.json) as tell:
            swept = sweep(result, axes, tell)
        found["sweep"] = swept.json()
    capacities: dict[str, dict[str, Any]] = {}
    if options.capacity:
        from simlib.capacity import capacities_of

        with _progress("channels", options.json) as tell:
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
        print("\n" + "\n".join(swept.lines()))
    if written:
        print("\nwritten: " + ", ".join(str(path) for path in written))
    return 0


def _axes(asked: Sequence[str], scenario: Any) -> Any:
    """Read what is to be assumed; whether it can be should be known before anything is simulated."""
    from simlib.sweep import Axis, assume

    axes = [Axis.parse(text) for text in asked]
    assume(scenario, axes)
    return axes


def _scenario(options: argparse.Namespace) -> Any:
    from simlib.scenario import Scenario

    scenario = Scenario.load(options.scenario)
    return scenario.replace(readings=dict(options.reading)) if options.reading else scenario


@contextlib.contextmanager
def _place(out: Path | None) -> Iterator[Path]:
    """Give the folder to write to: the one that was named, or one that is gone afterwards."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
    else:
        with tempfile.TemporaryDirectory(prefix="sendlab-") as name:
            yield Path(name)


def _load(options: argparse.Namespace) -> int:
    from simlib.safety import checked

    target = checked(options.target, options.allow_host) if options.target else None
    if options.allow_host and target is None:
        raise ValueError("--allow-host names a target: give --target HOST:PORT, too")
    if options.ca and target is None:
        raise ValueError("--ca is about a target: give --target HOST:PORT, too; the fakes have their own")

    from simlib.load import load
    from simlib.measured import load_lines

    scenario = _scenario(options)
    with _place(options.out) as folder, _progress("messages", options.json) as tell:
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
        refusals = found.summaries[tenant].refusals
        limit = max(refusals, key=refusals.__getitem__, default="")
        figure = timeline(found.timeline(tenant), f"{found.alternative}: {tenant}, measured", limit)
        save(figure, folder / f"timeline-{tenant}.png")


def _validate(options: argparse.Namespace) -> int:
    from simlib.measured import twin_lines
    from simlib.validate import measurable, over_smtp, validate

    scenario = _scenario(options)
    chosen, left_out = over_smtp(scenario, options.alternative, options.as_of)
    if options.time_scale is None and not measurable(scenario):
        hours = f"{scenario.duration / 3600:g} h"
        left_out.append(f"the measured gate: it takes {hours} an alternative; --time-scale X makes it X times as fast")
    with _place(options.out) as folder, _phases(options.json) as tell:
        found = validate(
            scenario,
            folder,
            chosen,
            time_scale=options.time_scale,
            tolerance=options.tolerance,
            seed=options.seed,
            as_of=options.as_of,
            progress=tell,
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


@contextlib.contextmanager
def _phases(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give something that shows on stderr what is being done and how far it is, if anybody watches."""
    with _progress("", quiet) as tell:

        def say(what: str, done: int, of: int) -> None:
            tell(done, of, what)

        yield say


def _size(options: argparse.Namespace) -> int:
    from simlib.advice import advise
    from simlib.prices import Prices
    from simlib.sentences import Sentences
    from simlib.words import Words

    candidates, question = _question(options)
    prices = Prices.load(options.prices) if options.prices else None
    with _progress("channels", options.json) as tell:
        advice = advise(candidates, options.confidence, options.seed, options.as_of, prices, question, tell)
    if options.json:
        print(json.dumps(advice.json(), allow_nan=False))
    else:
        print("\n".join(Sentences(advice, Words(options.lang)).lines()), flush=True)  # the card takes as long again
    if options.card:
        from simlib.card import page

        with _progress("places of the card's grid", options.json) as tell:
            options.card.write_text(page(advice, options.lang, tell), encoding="utf-8")
        if not options.json:
            print(f"\nwritten: {options.card}")
    return 0 if advice.recommended else 1


def _question(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the channels in question, from the numbers or the scenario, and what was asked."""
    from simlib.question import from_scenario, from_team
    from simlib.scenario import Scenario

    numbers = ("senders", "per_sender", "group_email", "start", "have", "tool")
    given = [f"--{name.replace('_', '-')}" for name in numbers if getattr(options, name) is not None]
    if options.scenario is not None:
        if given:
            raise ValueError(f"size: a scenario says by itself what {given[0]} says: give one or the other")
        scenario = Scenario.load(options.scenario)
        if options.reading:
            scenario = scenario.replace(readings=dict(options.reading))
        candidates = from_scenario(scenario, options.deadline)
        deadline = candidates[0].scenario.deadline
        return candidates, {"scenario": scenario.name, "deadline": f"{deadline:%H:%M}"}
    if options.senders is None or options.per_sender is None:
        raise ValueError("size: needs --senders and --per-sender, or a scenario file (see sendlab size --help)")
    question: dict[str, Any] = {
        "senders": options.senders,
        "per_sender": options.per_sender,
        "group_email": options.group_email or 0,
        "start": options.start or "09:00",
        "deadline": options.deadline or "17:30",
        "have": options.have,
        "tool": options.tool or "sales-connect",
    }
    if question["deadline"] <= question["start"]:
        raise ValueError(f"deadline must come after the start at {question['start']}, got {question['deadline']}")
    return from_team(**question, readings=dict(options.reading)), question


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
def _progress(unit: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Give something that shows progress on stderr, if anybody watches."""
    from tqdm import tqdm

    bar = tqdm(unit=f" {unit}", file=sys.stderr, disable=quiet or not sys.stderr.isatty(), leave=False)

    def tell(done: float, of: int, what: str = "") -> None:
        bar.total = of
        bar.set_description(what, refresh=False)
        bar.n = round(done, 2)
        bar.update(0)

    with bar:
        yield tell


def _import(options: argparse.Namespace) -> int:
    from simlib.importing import import_log

    found = import_log(
        options.logs,
        options.format,
        options.out,
        keep_addresses=options.keep_addresses,
        zone=options.zone,
        year=options.year,
    )
    for name, number, why in found.shown:
        print(f"{name}: line {number}: {why}", file=sys.stderr)
    if found.unreadable > len(found.shown):
        print(f"and {found.unreadable - len(found.shown):,} more, see unreadable.csv", file=sys.stderr)
    print(json.dumps(found.json()) if options.json else "\n".join(found.told()))
    return 1 if found.unreadable else 0


def _learn(options: argparse.Namespace) -> int:
    from simlib.learn import learn

    found = learn(options.replies, options.provider)
    written = []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for one in found:
            if one.learned:
                written.append(options.out / f"{one.slug}-observed.toml")
                written[-1].write_text(one.toml(), encoding="utf-8")
    if options.json:
        providers = {one.name: one.json() for one in found}
        print(json.dumps({"providers": providers, "written": [str(path) for path in written]}, allow_nan=False))
    else:
        print("\n\n".join("\n".join(one.lines()) for one in found))
        if written:
            print("\nwritten: " + ", ".join(map(str, written)))
    return 0 if all(one.enough or not one.findings for one in found) and any(one.findings for one in found) else 1


def _audit(options: argparse.Namespace) -> int:
    from simlib.audit import RULES, judge
    from simlib.audited import audit_json, audit_lines
    from simlib.provider import Provider
    from simlib.trial import Mailer, audit

    virtual = options.clock == "virtual"
    if virtual and options.time_scale is not None:
        raise ValueError(f"--time-scale hurries the wall's clock; a virtual one is moved, got {options.time_scale:g}")
    if virtual and not any("{control}" in word for word in options.passed):
        raise ValueError("--clock virtual needs a COMMAND with {control}: nobody else moves the clock")
    raw = Provider.load(options.provider)
    if raw.transport != "smtp":
        raise ValueError(f"{raw.name} speaks {raw.transport.upper()}, not SMTP: there is no fake of it")
    as_of = options.as_of or raw.newest
    provider = raw.on(as_of).read_as(dict(options.reading)).set(dict(options.limit))
    mailer = Mailer(tuple(options.passed), options.time_scale or 1.0, virtual, options.port)
    serve = ["--as-of", as_of.isoformat()]
    serve += [word for one in options.reading for word in ("--reading", "=".join(one))]
    serve += [word for limit, amount in options.limit for word in ("--limit", f"{limit}={amount}")]
    rules = options.rules or list(RULES)
    run = audit(provider, mailer, rules, serve, lambda said: print(f"sendlab: {said}", file=sys.stderr, flush=True))
    verdicts = judge(run, rules)
    if options.json:
        print(json.dumps(audit_json(run, verdicts), allow_nan=False))
    else:
        print("\n".join(audit_lines(run, verdicts)))
    return int(any(verdict.outcome == "failed" for verdict in verdicts))


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
    from simlib.lab import default_folder, serve, unpack

    folder = options.folder or default_folder()
    said = sys.stderr if options.json else sys.stdout
    found = unpack(folder)
    if found.written:
        print(f"{len(found.written)} files unpacked into {folder}", file=said)
    if found.kept:
        print(f"kept as they are, though others are shipped: {', '.join(found.kept)}", file=said)

    def ready(url: str) -> None:
        if options.json:
            print(json.dumps({"url": url, "folder": str(folder.resolve())}), flush=True)
        else:
            print(f"The notebooks are at {url}\nCtrl-C ends it.", flush=True)

    serve(folder, [*["--no-browser"] * options.no_browser, *options.passed], ready)
    return 0


def _app(options: argparse.Namespace) -> int:
    import webbrowser

    from simlib.lab import serve_app

    def ready(url: str) -> None:
        print(json.dumps({"url": url}) if options.json else f"The app is at {url}\nCtrl-C ends it.", flush=True)
        if not options.no_browser:
            webbrowser.open(url)

    serve_app(options.lang, options.passed, ready)
    return 0
