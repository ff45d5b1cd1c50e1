"""The reply table: what a server answered to each attempt, and when, read from whatever wrote it down.

A table is CSV with the columns of `COLUMNS` (`sendlab import` writes it) or a ledger in JSON Lines (DESIGN §8), a
client's or a server's. Which limit spoke is never read, even where a ledger says so.
"""

import csv
import datetime as dt
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simlib.provider import STAGES, Stage

__all__ = ["COLUMNS", "Outcome", "read"]

COLUMNS = (
    *("time", "took", "setup", "provider", "session", "ip", "account", "mail_from", "recipients", "bytes"),
    *("stage", "code", "enhanced", "text"),
)
"""Of these a CSV needs `time` and `code`; what is missing or empty is not known."""


class Outcome(NamedTuple):
    """One attempt and its last reply.

    Parameters
    ----------
    began, ended : float
        When the attempt began and when its last reply came; in seconds, since 1970 in UTC where the table has dates,
        else since second 0. Both are the same where nobody wrote down how long it took.
    setup : float or None
        How long it took from its beginning to MAIL, in seconds: 0 in a session that was open already.
    provider : str
        Who answered.
    session, ip, account, mail_from : str
        The connection, the address it came from, who had logged in, the envelope's sender; empty if not known.
    recipients, bytes : int
        How many, how big; a recipient where nothing else is known, and 0 bytes.
    stage : str
        The command that was answered; end of data where that isn't known.
    code : int
        The reply code, 0 if there was no reply.
    enhanced, text : str
        The rest of the reply.
    held : bool
        Whether the table itself says that a limit kept the reply back.
    """

    began: float
    ended: float
    setup: float | None
    provider: str
    session: str
    ip: str
    account: str
    mail_from: str
    recipients: int
    bytes: int
    stage: Stage
    code: int
    enhanced: str
    text: str
    held: bool


def read(path: Path) -> tuple[list[Outcome], bool]:
    """Read a reply table: its outcomes by the time of the reply, and whether its times have dates.

    Parameters
    ----------
    path : Path
        CSV, or JSON Lines with the ending ``.jsonl``.

    Returns
    -------
    tuple of (list of Outcome, bool)
        The outcomes; True where times have dates.

    Raises
    ------
    ValueError
        If a row can't be read, or times with and without dates are mixed: the line names file, line and value.
    """
    found: list[Outcome] = []
    dated: set[bool] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _json_rows(file) if path.suffix == ".jsonl" else _csv_rows(file)
            for number, row in rows:
                try:
                    outcome, has_date = _outcome(row)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None
                if outcome is not None:
                    found.append(outcome)
                    dated.add(has_date)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table in UTF-8: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(dated) > 1:
        raise ValueError(f"{path}: times must all be dates, or all seconds, got both")
    if not found:
        raise ValueError(f"{path}: has no replies")
    found.sort(key=lambda outcome: outcome.ended)
    return found, dated == {True}


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file)
    columns = reader.fieldnames or []
    for needed in ("time", "code"):
        if needed not in columns:
            raise ValueError(f"column {needed!r} is missing (there are: {', '.join(columns) or 'none'})")
    for row in reader:
        yield reader.line_num, row


def _json_rows(file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.endswith("\n"):
            return  # cut off in the middle, as a ledger may be whose writer was killed
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: must be a JSON object, got {line[:60]!r}")
        if row.get("started_at", "") is not None and row.get("ended_at", "") is not None:  # else it was never answered
            yield number, row


def _outcome(row: Mapping[str, Any]) -> tuple[Outcome | None, bool]:
    """Read a row of either table; None where it isn't about an attempt."""
    has_date = False
    if "ended_at" in row:  # a client's ledger
        began, ended, setup = _number(row, "started_at"), _number(row, "ended_at"), None
    else:
        held = _number(row, "held", 0.0)
        ended, has_date = _time(row.get("time"))
        took = _number(row, "took", 0.0)
        if took < 0:
            raise ValueError(f"took must be at least 0, got {row['took']!r}")
        ended += held  # a server's ledger has the moment of the decision
        began = ended - (took or held)
        setup = None if row.get("setup") in (None, "") else _number(row, "setup")
    code = _number(row, "code")
    if code != int(code) or not (code == 0 or 200 <= code < 600):
        raise ValueError(f"code must be a reply code or 0, got {row['code']!r}")
    if not row.get("stage") and "ended_at" in row:
        return None, has_date
    said = _text(row, "stage") or "EOD"
    stage = next((one for one in STAGES if one == said), None)
    if stage is None:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {said!r}")
    return (
        Outcome(
            began,
            ended,
            setup,
            _text(row, "provider"),
            _text(row, "session"),
            _text(row, "ip"),
            _text(row, "account").lower(),
            (_text(row, "mail_from") or _text(row, "sender")).lower(),
            _count(row, "recipients", 1),
            _count(row, "bytes", 0),
            stage,
            int(code),
            _text(row, "enhanced"),
            _text(row, "text"),
            _number(row, "held", 0.0) > 0,
        ),
        has_date,
    )


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _number(row: Mapping[str, Any], column: str, default: float = math.nan) -> float:
    value = row.get(column)
    if value is None or value == "":
        value = default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{column} must be a number, got {row.get(column)!r}")
    return number


def _count(row: Mapping[str, Any], column: str, least: int) -> int:
    number = _number(row, column, least)
    if number < least or number != int(number):
        raise ValueError(f"{column} must be a whole number of at least {least}, got {row.get(column)!r}")
    return int(number)


def _time(value: object) -> tuple[float, bool]:
    """Read seconds, or a date and time; one without a zone is in UTC."""
    try:
        seconds = float(str(value))
        if math.isfinite(seconds):
            return seconds, False
    except ValueError:
        pass
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"time must be seconds or look like 2026-12-01T09:30:00Z, got {value!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp(), True
