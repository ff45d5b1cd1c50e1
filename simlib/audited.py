"""How an audit is told: lines of text for a terminal, the failures first; and the document for programs."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from simlib.audit import RULES, Run, Setting, Verdict, safe_setting, usage

__all__ = ["audit_json", "audit_lines", "setting_words"]

ORDER: Final = ("failed", "passed", "not tested")
SHOWN: Final = ("time", "session", "stage", "code", "enhanced", "message_id", "text")
LONGEST: Final = 60  # characters of a reply's text


def audit_json(run: Run, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the document of `audit --json` (DESIGN §7).

    Parameters
    ----------
    run : Run
        What the trials left in the ledgers.
    verdicts : sequence of Verdict
        What was judged of it.

    Returns
    -------
    dict of str to object
        What JSON can hold.
    """
    return {
        "provider": run.provider.name,
        "passed": not any(verdict.outcome == "failed" for verdict in verdicts),
        "rules": {
            verdict.rule: {"verdict": verdict.outcome, "says": verdict.says, "lines": list(verdict.lines)}
            for verdict in verdicts
        },
        "limits": {
            f"{run.provider.name}/{one.limit.id}": {
                "most": one.most,
                "allowed": one.allowed,
                "limit": str(one.limit.limit),
                "offered": one.offered,
                "over": len(one.over),
                "tested": one.tested,
            }
            for one in usage(run)
        },
        "setting": safe_setting(run.provider, _recipients(run)).json(),
        "trials": {
            name: {"ledger_lines": len(seen.lines), "connections": seen.sessions} for name, seen in run.trials.items()
        },
    }


def audit_lines(run: Run, verdicts: Sequence[Verdict]) -> list[str]:
    """Tell what an audit found: a paragraph each rule, with the ledger lines that show it.

    Parameters
    ----------
    run : Run
        What the trials left in the ledgers.
    verdicts : sequence of Verdict
        What was judged of it.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    failed = [verdict.rule for verdict in verdicts if verdict.outcome == "failed"]
    tested = sum(verdict.outcome != "not tested" for verdict in verdicts)
    head = f"FAILED: {', '.join(failed)}" if failed else f"Passed every rule that was tested ({tested})"
    lines = [f"{run.provider.title}: {head}.", ""]
    for verdict in sorted(verdicts, key=lambda one: ORDER.index(one.outcome)):
        lines.append(f"{verdict.outcome.upper():<10}  {RULES[verdict.rule]} ({verdict.rule})")
        lines.append(f"{'':12}{verdict.says}")
        lines += [f"{'':14}{one}" for one in _evidence(verdict)]
    lines += [
        "",
        f"The setting that would have been safe: {setting_words(safe_setting(run.provider, _recipients(run)))}.",
    ]
    return lines


def _evidence(verdict: Verdict) -> Iterator[str]:
    if verdict.outcome == "not tested":
        return
    for line in verdict.lines:
        text = " ".join(line["text"].split())
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        code = " ".join(str(part) for part in (line["code"] or "no reply", line["enhanced"]) if part)
        who = line["message_id"] or line["mail_from"]
        held = f", held {line['held']:.4g} s" if line["held"] else ""
        lost = ", reply lost" if line["code"] == 250 and line.get("fault") else ""
        where = f"{line['time']:>8.1f} s  session {line['session']:<3} {line['stage']:<7}"
        yield f"{where} {code} {text}  {who}{held}{lost}".rstrip()


def _recipients(run: Run) -> int:
    """Return how many recipients a message had at most."""
    return max((line["recipients"] for seen in run.trials.values() for line in seen.lines), default=1)


def setting_words(setting: Setting) -> str:
    """Write a setting as people type it.

    Parameters
    ----------
    setting : Setting
        The fastest that is safe.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> from simlib.provider import Provider
    >>> setting_words(safe_setting(Provider.load("office365")))
    '5 messages every 12 s (25 a minute), 3 connections at most, recipients-per-day 10000/d'
    """
    parts = []
    if setting.batch:
        number = "1 message" if setting.batch == 1 else f"{setting.batch} messages"
        parts.append(f"{number} every {setting.wait:g} s ({60 * setting.batch / setting.wait:.4g} a minute)")
    if setting.connections:
        parts.append(f"{setting.connections} connection{'s' if setting.connections > 1 else ''} at most")
    if setting.messages_per_session:
        parts.append(f"{setting.messages_per_session} messages on each")
    parts += [f"{name} {amount}" for name, amount in setting.at_most.items()]
    return ", ".join(parts) or "any: no limit in time is known"
