"""`sendlab audit`: how your own mailer behaves when things go wrong."""

import argparse
import json
import sys
from typing import Any

from simlib import argument

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `audit` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["audit", "office365", "--clock", "virtual"]).clock
    'virtual'
    """
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
    argument.facts_options(audit)
    audit.set_defaults(run=_audit)


def _rules(text: str) -> list[str]:
    from simlib.audit import RULES

    rules = text.split(",")
    unknown = next((rule for rule in rules if rule not in RULES), None)
    if unknown is not None:
        raise argparse.ArgumentTypeError(f"unknown rule {unknown!r} (there are: {', '.join(RULES)})")
    return rules


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
