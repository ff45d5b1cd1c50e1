"""Results as people read them: tables in the terminal, files in a folder."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.experiment import Estimate, Result
from simlib.sizing import MOST, largest_send

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["comparison", "conclusion", "document", "figures", "one_off", "write"]

ONE_OFF_WITHIN = 900.0
"""Seconds in which a one-off send has to be done to be called one."""
WORTH_A_ROW = 0.01
"""Share of the offered messages from which on another reading of a limit gets its own row."""


def comparison(result: Result, tenant: str | None = None) -> "pd.DataFrame":
    """Return one row per alternative, as text: what became of the mail, what bound it, what it rests on.

    Parameters
    ----------
    result : Result
        What `compare` found.
    tenant : str, optional
        Whose mail; by default the first tenant's that isn't a neighbour.

    Returns
    -------
    DataFrame
        Counts are messages, with half the width of their 95 % interval where they are random.
    """
    import pandas as pd

    tenant = tenant or own_tenants(result)[0]
    rows = [_row(result, alternative, tenant) for alternative in result.runs]
    for under in result.under:
        rows += [_row(result, alternative, tenant, under) for alternative in _changed(result, under, by=WORTH_A_ROW)]
    return pd.DataFrame(rows)


def own_tenants(result: Result) -> list[str]:
    """Return the tenants that are not neighbours."""
    return [tenant.name for tenant in result.scenario.tenants if not tenant.neighbour]


def _row(result: Result, alternative: str, tenant: str, under: tuple[str, str] | None = None) -> dict[str, str]:
    def count(metric: str) -> str:
        return with_interval(result.estimate(alternative, tenant, metric, under))

    scenario = result.scenario
    held = result.estimate(alternative, tenant, "held", under).mean or 0.0
    held_for = result.estimate(alternative, tenant, "held_mean", under)
    longest = result.estimate(alternative, tenant, "held_max", under)
    row = {
        "channel": alternative if under is None else f"{alternative}, if read as {under[1]!r}",
        "accepted": count("accepted"),
        "refused": count("rejected"),
        "expired": count("expired"),
        "waiting": count("waiting"),
        "held": count("held"),
        "held for (mean, longest)": f"{span(held_for.mean)}, {span(longest.mean)}" if held else "–",
    }
    if scenario.deadline is not None:
        row[f"on time by {scenario.deadline:%H:%M}"] = count("on_time")
    row["half done in"] = span(result.estimate(alternative, tenant, "delay_p50", under).mean)
    row["95 % done in"] = span(result.estimate(alternative, tenant, "delay_p95", under).mean)
    if under is None:
        row["bound by"] = _bound_by(result, alternative, tenant)
        row["shareable"] = shareable(result, alternative)
        row["assumptions"] = str(len(scenario.rests_on([alternative], result.as_of)))
    else:
        row["bound by"] = row["shareable"] = row["assumptions"] = ""
    return row


def with_interval(estimate: Estimate) -> str:
    """Write a count with half the width of its interval: ``1,000 ± 4``.

    Examples
    --------
    >>> with_interval(Estimate(1000.0, 995.9, 1004.1)), with_interval(Estimate(30.0, 30.0, 30.0, random=False))
    ('1,000 ± 4', '30')
    """
    if estimate.mean is None:
        return "–"
    if estimate.low is None or estimate.high is None or estimate.high - estimate.low < 1e-9:
        return f"{estimate.mean:,.0f}"
    return f"{estimate.mean:,.0f} ± {math.ceil((estimate.high - estimate.low) / 2):,}"


def span(seconds: float | None) -> str:
    """Write a time span as people say it.

    Examples
    --------
    >>> [span(seconds) for seconds in (0.0, 4.2, 90, 1980, 40000, None)]
    ['at once', '4.2 s', '90 s', '33 min', '11.1 h', 'never']
    """
    if seconds is None:
        return "never"
    if seconds < 0.05:
        return "at once"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


def _bound_by(result: Result, alternative: str, tenant: str) -> str:
    """Name what held the mail back: the biggest share of the delay, or the limit that refused most of it."""
    refused = {name: e.mean or 0.0 for name, e in result.refusals(alternative, tenant).items()}
    lost = result.estimate(alternative, tenant, "rejected").mean or 0.0
    lost += result.estimate(alternative, tenant, "expired").mean or 0.0
    shares = result.bound_by(alternative, tenant)
    if refused and (lost or not shares or next(iter(shares)) == "retry"):
        name = max(refused, key=lambda limit: refused[limit])
        return f"{name} (refused {refused[name]:,.0f})" if lost else f"{name} (deferred {refused[name]:,.0f})"
    if not shares:
        return "nothing"
    name, share = next(iter(shares.items()))
    return f"{name} ({share:.0%} of the delay)"


def shareable(result: Result, alternative: str) -> str:
    """Say whether one credential can serve the whole team."""
    lanes = result.scenario.lanes(alternative, result.as_of)
    return "no" if any(lane.provider.credential == "account" for lane in lanes) else "yes"


def one_off(result: Result) -> dict[str, dict[str, int]]:
    """Return the largest send that each alternative's channel takes from one sender without refusal, within 15 minutes.

    Returns
    -------
    dict
        Alternative -> reading (``"as published"`` for the default) -> messages.
    """
    found: dict[str, dict[str, int]] = {}
    for alternative in result.runs:
        size = largest_send(result.scenario, alternative, ONE_OFF_WITHIN, result.as_of)
        found[alternative] = {"as published": size}
    for key in result.under:
        limit, reading = key
        other = result.scenario.replace(readings={limit: reading})
        for alternative in _changed(result, key):
            size = largest_send(other, alternative, ONE_OFF_WITHIN, result.as_of)
            if size != found[alternative]["as published"]:
                found[alternative][f"{limit} = {reading}"] = size
    return found


def _changed(result: Result, under: tuple[str, str], by: float = 0.0) -> list[str]:
    """Return the alternatives in which a reading changes what is accepted, refused or held, by more than a share."""
    found = []
    for alternative in result.under[under]:
        for tenant in own_tenants(result):
            offered = sum(result.values(alternative, tenant, "offered"))
            gaps = (
                abs(sum(result.values(alternative, tenant, metric, under)) - sum(result.values(alternative, tenant, metric)))
                for metric in ("accepted", "rejected", "expired", "held")
            )
            if max(gaps) > by * offered:
                found.append(alternative)
    return list(dict.fromkeys(found))


def conclusion(result: Result, sends: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say in sentences what the table shows, and under which other reading it would change."""
    metric = "on time" if result.scenario.deadline is not None else "accepted"
    best = sorted(result.conclusion(), key=list(result.runs).index)
    others = [name for name in result.runs if name not in best]
    lines = [f"Most mail {metric}: {', '.join(best)}." + (f" Behind: {', '.join(others)}." if others else "")]
    for flip in result.flips():
        if flip["flips"]:
            changed = sorted(result.conclusion((flip["limit"], flip["reading"])), key=list(result.runs).index)
            lines.append(f"If {flip['limit']} means {flip['reading']!r} (sources disagree): {', '.join(changed)}.")
    lines.append("Largest one-off send by one sender, taken whole within 15 minutes:")
    for alternative, sizes in sends.items():
        shown = [
            f"{size:,}{' or more' if size >= MOST else ''}" + ("" if name == "as published" else f" if {name}")
            for name, size in sizes.items()
        ]
        lines.append(f"  {alternative}: {', '.join(shown)}")
    at_the_door = [name for name in result.runs if result.role(name) == "submission"]
    if at_the_door and len(at_the_door) < len(result.runs):
        lines.append(
            f"Accepted is not delivered: {', '.join(at_the_door)} end at the provider's door; "
            "what happens behind it is not claimed."
        )
    lines.append(f"Rests on {len(result.assumptions())} assumptions: " + ", ".join(a["id"] for a in result.assumptions()))
    return lines


def document(result: Result) -> dict[str, Any]:
    """Return what `compare --json` prints and `summary.json` holds."""
    return {**result.json(), "one_off": one_off(result)}


def figures(result: Result) -> dict[str, Any]:
    """Draw the plots of a comparison, by file name."""
    return {}


def write(result: Result, folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """Write `summary.json`, `attempts.parquet` and the plots into a folder; return their paths.

    Everything is written under another name first, so that no file is ever half-written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from simlib import plot

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "summary.json", folder / "attempts.parquet"]
    _replace(paths[0], lambda path: path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8"))

    def attempts(path: Path) -> None:
        writer = None
        for frame in result.frames():
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                about = {b"scenario": result.scenario.name.encode(), b"seed": str(result.seed).encode()}
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), **about})
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema))
        if writer is not None:
            writer.close()

    _replace(paths[1], attempts)
    for name, figure in figures(result).items():
        paths.append(folder / f"{name}.png")
        _replace(paths[-1], lambda path, figure=figure: plot.save(figure, path))
    return paths


def _replace(path: Path, write_to: Any) -> None:
    draft = path.with_name(f".{path.name}.draft")
    write_to(draft)
    draft.replace(path)
