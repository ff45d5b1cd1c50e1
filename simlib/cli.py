"""The command line: ``sendlab COMMAND``. Each command is a module beside this one, named ``cli_COMMAND``.

What takes long to import is imported by the command that needs it, once it is run.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from simlib import (
    argument,
    cli_audit,
    cli_compare,
    cli_lab,
    cli_load,
    cli_logs,
    cli_providers,
    cli_size,
    cli_validate,
)

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
    cli_compare.add(commands)
    cli_providers.add(commands)
    # processes of their own, which read what follows themselves
    commands.add_parser("serve", help="fake servers that answer as the providers do", add_help=False)
    commands.add_parser("reconcile", help="what became of every message, from the ledgers", add_help=False)
    cli_load.add(commands)
    cli_validate.add(commands)
    cli_size.add(commands)
    cli_audit.add(commands)
    cli_logs.add(commands)
    cli_lab.add(commands)
    return parser
