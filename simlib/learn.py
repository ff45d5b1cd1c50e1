"""Which limits a provider has, from what it answered and when: in words, as JSON, and as a provider's file.

Refusals with the same words are one limit's; replies that were kept back are another's (`simlib.evidence`). For each,
every hypothesis (`simlib.hypothesis`) is held against every reply (`simlib.search`).
"""

import datetime as dt
import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.evidence import Log
from simlib.facts import Rate
from simlib.hypothesis import Bounds, Hypothesis, spoken
from simlib.provider import Provider, names, parse
from simlib.replies import Outcome, read
from simlib.search import Finding, explain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Learned", "learn"]

DAY = 86400.0


@dataclass(frozen=True)
class Learned:
    """What the replies of one provider say about its limits.

    Parameters
    ----------
    name : str
        The provider, as the table calls it.
    outcomes : int
        How many replies there were.
    first, last : str
        When the first and the last came: dates, or seconds.
    source : str
        Where that was read, as facts have it.
    as_of : date
        The date of the last.
    findings : sequence of Finding
        One for each limit that spoke.
    by_account : bool
        Whether attempts had accounts, as at a submission provider.
    """

    name: str
    outcomes: int
    first: str
    last: str
    source: str
    as_of: dt.date
    findings: tuple[Finding, ...]
    by_account: bool

    @property
    def enough(self) -> bool:
        """Whether every refusal is explained by a limit that was learned."""
        return bool(self.findings) and all(finding.enough for finding in self.findings)

    @property
    def learned(self) -> tuple[Finding, ...]:
        """The limits that are known."""
        return tuple(finding for finding in self.findings if finding.enough)

    def json(self) -> dict[str, Any]:
        """Return it as `sendlab learn --json` has it.

        Returns
        -------
        dict
            What `json.dumps` takes.
        """
        return {
            "replies": self.outcomes,
            "from": self.first,
            "to": self.last,
            "enough": self.enough,
            "limits": [document(finding) for finding in self.learned],
            "not_enough": [document(finding) for finding in self.findings if not finding.enough],
        }

    def table(self) -> "pd.DataFrame":
        """Return the findings as a table, one row each: what is known, or why there is not enough.

        Returns
        -------
        DataFrame
            A row a finding.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "limit": id_of(one) if one.enough else "not enough",
                "amount": str(amount_of(one.best, one.bounds.low)) if one.enough else "",
                "what": f"{one.best}, per {one.best.per}" if one.enough else one.why,
                "over it": f"{on_excess(one)} at {one.family.stage}",
                "times": one.times,
                "said": "" if not one.family.words else _one_line(one),
                "interval": between(one) if one.enough else "",
                "can't tell": _same(one),
            }
            for one in self.findings
        )

    def lines(self) -> list[str]:
        """Say it in words.

        Returns
        -------
        list of str
            Lines for a terminal.
        """
        found = [f"{self.name or 'unnamed'}: {self.outcomes:,} replies, {self.first} to {self.last}"]
        for one in self.learned:
            best = one.best
            per = "" if best.kind in ("message", "session") else f" per {best.per}"
            refused = "attempts, refused ones too" if best.attempts else "what is accepted"
            counted = "" if best.period is None else f", counts {refused}"
            found += [
                "",
                f"  {id_of(one)}: {amount_of(one.best, one.bounds.low)}{per}, {best}{counted}",
                f"    {between(one)}",
            ]
            found.append(f"    {on_excess(one)} at {one.family.stage}, {one.times} times: {_one_line(one)}")
            if one.same:
                found.append(f"    can't tell: {_same(one)}")
        for one in self.findings:
            if not one.enough:
                found += ["", f"  not enough: {_one_line(one)}, {one.times} times", f"    {one.why}"]
        if not self.findings:
            found += ["", "  nothing was refused or held: no limit was reached"]
        return found

    def provider(self) -> Provider:
        """Return what was learned as a provider, to be simulated and served.

        Returns
        -------
        Provider
            Its limits are those that are known.
        """
        return parse(tomllib.loads(self.toml()), self.name)

    def toml(self) -> str:
        """Return what was learned as a provider's file, every limit graded ``observed``.

        Returns
        -------
        str
            TOML that `Provider.load` reads.
        """
        known = self.name in names()
        facts = Provider.load(self.name) if known else None
        role = facts.role if facts else "submission" if self.by_account else "delivery"
        credential = facts.credential if facts else "account" if self.by_account else "ip"
        auth = list(facts.auth) if facts else ["PLAIN"] if self.by_account else []
        lines = [
            f"name = {_text(f'{self.slug}-observed')}",
            f"title = {_text((self.name or 'unnamed') + ', as observed')}",
            f"role = {_text(role)}",
            f"credential = {_text(credential)}",
            f"auth = {json.dumps(auth)}",
        ]
        if facts:
            lines.append(f"tls = {_text(facts.tls)}")
        for finding in self.findings:
            if not finding.enough:
                lines += ["", f"# not enough: {finding.times} times {_one_line(finding)}", f"# {finding.why}"]
        ids: dict[str, int] = {}
        for finding in self.learned:
            ids[id_of(finding)] = ids.get(id_of(finding), 0) + 1
            id_ = id_of(finding) if ids[id_of(finding)] == 1 else f"{id_of(finding)}-{ids[id_of(finding)]}"
            lines += ["", "[[limits]]", *self._limit(finding, id_)]
        return "\n".join(lines) + "\n"

    @property
    def slug(self) -> str:
        """The provider's name as a name of a file."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "unnamed"

    def _limit(self, finding: Finding, id_: str) -> list[str]:
        best, bound = finding.best, finding.bounds
        lines = [f"id = {_text(id_)}", f"count = {_text(best.count)}", f"per = {_text(best.per)}"]
        lines.append(f"limit = {json.dumps(amount_of(best, bound.low))}")
        if best.kind in ("sliding", "fixed", "token_bucket"):
            lines.append(f"window = {_text(best.kind)}")
        if best.kind == "fixed":
            lines.append(f"anchor = {_text(best.anchor or '')}")
        if best.kind == "token_bucket":
            lines.append(f"burst = {math.ceil(bound.low)}")
        lines.append(f"counts = {_text('attempts' if best.attempts else 'accepted')}")
        lines += [f"on_excess = {_text(on_excess(finding))}", f"at = {_text(finding.family.stage)}"]
        if best.penalty is not None:
            lines.append(f"penalty = {_text(f'{best.penalty:g}s')}")
        if finding.family.words:
            words = " ".join(part for part in (str(finding.family.code), finding.family.enhanced, finding.text) if part)
            lines.append(f"reply = {_text(words.replace('{', '{{').replace('}', '}}'))}")
        fields = {"per": "per", "count": "count", "counts": "counts", "anchor": "anchor"}
        unknown = [fields[name] for name in finding.same]
        if unknown:
            lines.append(f"assumed = {json.dumps(unknown)}")
        lines.append(f"note = {_text(self._note(finding))}")
        lines += self._facts()
        for name, field, value in self._readings(finding):
            lines += [
                "",
                "[[limits.readings]]",
                f"name = {_text(name)}",
                f"{field} = {json.dumps(value)}",
                *self._facts(),
            ]
        return lines

    def _facts(self) -> list[str]:
        return [f"source = {_text(self.source)}", f"as_of = {self.as_of}", 'grade = "observed"']

    def _note(self, finding: Finding) -> str:
        what = "held" if not finding.family.words else "refused"
        said = f"{what} {finding.times} of {self.outcomes} attempts, {self.first} to {self.last}; {between(finding)}"
        same = f"; {_same(finding)}" if finding.same else ""
        offset = finding.best.offset
        if finding.best.kind == "fixed" and finding.best.period == DAY and offset:
            same += f"; the day begins at {int(24 - offset / 3600):02}:00 UTC"
        return said + same

    def _readings(self, finding: Finding) -> Iterator[tuple[str, str, str | float]]:
        """Yield what the log leaves open as other readings, so that every answer says whether it depends on it."""
        best, bound = finding.best, finding.bounds
        if not bound.exact and best.kind != "token_bucket":
            yield "most", "limit", amount_of(best, bound.high)
        for name in ("counts", "anchor"):
            for value in finding.same.get(name, ()):
                yield f"{name}-{value.replace('_', '-')}", name, value


# One limit


def on_excess(finding: Finding) -> str:
    """Return what happens above the limit, as facts call it."""
    if not finding.family.words:
        return "hold_reply"
    code = finding.family.code
    return "close" if code == 421 else "defer" if code < 500 else "reject"


def id_of(finding: Finding) -> str:
    """Return an id in the manner of the facts, such as ``messages-per-minute``."""
    best = finding.best
    what = best.count.replace("_", "-")
    if best.kind in ("message", "session"):
        return "message-size" if best.count == "bytes" else f"{what}-per-{best.kind}"
    if best.kind == "in_use":
        return what
    period = spoken(best.period or 1.0)
    return f"{what}-per-{period.removeprefix('1 ')}".replace(" ", "-").replace(".", "-")


def amount_of(hypothesis: Hypothesis, amount: float) -> str | float:
    """Return an amount as facts have it: ``30/min``, or a bare number."""
    if hypothesis.rate is not None:
        unit = next((unit for unit in (1.0, 60.0, 3600.0) if hypothesis.rate * unit >= 1), DAY)
        return str(Rate(float(f"{hypothesis.rate * unit:.3g}"), unit))
    whole = int(amount) if float(amount).is_integer() else amount
    return whole if hypothesis.period is None else str(Rate(whole, hypothesis.period))


def document(finding: Finding) -> dict[str, Any]:
    """Return a finding as `sendlab learn --json` has it."""
    family = finding.family
    found: dict[str, Any] = {
        "stage": family.stage,
        "code": family.code,
        "enhanced": family.enhanced,
        "text": finding.text if family.words else "",
        "times": finding.times,
        "enough": finding.enough,
    }
    if not finding.enough:
        return found | {"why": finding.why, "candidates": [_described(*one) for one in finding.left]}
    return found | {
        "id": id_of(finding),
        "limit": amount_of(finding.best, finding.bounds.low),
        **_described(finding.best, finding.bounds),
        "on_excess": on_excess(finding),
        "indistinct": {name: list(values) for name, values in finding.same.items()},
    }


def _described(hypothesis: Hypothesis, bounds: Bounds) -> dict[str, Any]:
    return {
        "window": hypothesis.kind,
        "period": hypothesis.period,
        "anchor": hypothesis.anchor,
        "count": hypothesis.count,
        "per": hypothesis.per,
        "counts": "attempts" if hypothesis.attempts else "accepted",
        "penalty": hypothesis.penalty,
        "amount": {"low": bounds.low, "high": None if bounds.high == math.inf else bounds.high},
        **({"per_second": hypothesis.rate} if hypothesis.rate is not None else {}),
    }


def between(finding: Finding) -> str:
    """Say which amounts are left.

    Parameters
    ----------
    finding : Finding
        A limit that was learned.
    """
    best, bound = finding.best, finding.bounds
    if best.kind == "token_bucket":
        return f"the burst is {bound.low:.4g} to {bound.high:.4g}"
    return "no other amount explains it" if bound.exact else f"the amount is {bound.low:,.10g} to {bound.high:,.10g}"


def _same(finding: Finding) -> str:
    return "; ".join(f"{name} may also be {' or '.join(values)}" for name, values in finding.same.items())


def _one_line(finding: Finding) -> str:
    family = finding.family
    said = f"{family.code} {family.enhanced} {finding.text}" if family.words else "the reply is kept back"
    return " ".join(said.split())


def _text(text: str) -> str:
    """Write a text as TOML's basic string: what JSON escapes, TOML reads."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def learn(path: Path, provider: str | None = None) -> tuple[Learned, ...]:
    """Read a reply table or a ledger and say, for each provider in it, which limits its replies show.

    Parameters
    ----------
    path : Path
        What `sendlab import` writes, or a client's or a server's ledger (DESIGN §8).
    provider : str, optional
        Only this one.

    Returns
    -------
    tuple of Learned
        One for each provider that refused or held anything.

    Raises
    ------
    ValueError
        If the table can't be read, or has no such provider.
    """
    outcomes, dated = read(path)
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.provider, []).append(one)
    if provider is not None and provider not in found:
        raise ValueError(f"{path}: has no provider {provider!r} (there are: {', '.join(sorted(found))})")
    chosen = [provider] if provider is not None else sorted(found)
    written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).date()
    return tuple(_learned(name, Log(tuple(found[name]), dated), path.name, written) for name in chosen)


def _learned(name: str, log: Log, file: str, written: dt.date) -> Learned:
    first, last = (_when(log.outcomes[place].ended, log.dated) for place in (0, -1))
    findings = [
        explain(log, family, rows) for family, rows in sorted(log.families.items(), key=lambda item: -len(item[1]))
    ]
    as_of = dt.datetime.fromtimestamp(log.outcomes[-1].ended, dt.UTC).date() if log.dated else written
    return Learned(
        name,
        len(log.outcomes),
        first,
        last,
        f"{file}, {len(log.outcomes):,} replies from {first} to {last}",
        as_of,
        tuple(findings),
        any(one.account for one in log.outcomes),
    )


def _when(seconds: float, dated: bool) -> str:
    if not dated:
        return f"second {seconds:,.1f}"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
