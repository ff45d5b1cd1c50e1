"""The record as a table: one row an attempt, as DESIGN §8 has it."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.channel import Attempts
from simlib.receiver import render

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame", "ledger"]


def frame(attempts: Attempts, zero: dt.datetime) -> "pd.DataFrame":
    """Return the record of a run as DESIGN §8 has it, times as `Timestamp` with zone and again in seconds (``_s``).

    Parameters
    ----------
    attempts : Attempts
        The record.
    zero : datetime
        The moment of second 0, with a zone.

    Returns
    -------
    DataFrame
        A row an attempt, in the order of the decisions.

    Examples
    --------
    >>> from simlib.experiment import run
    >>> from simlib.scenario import Scenario
    >>> scenario = Scenario.build({
    ...     "name": "one", "duration": "1h", "start": "2026-12-01T09:00+09:00",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 1}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o365", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> table = frame(run(scenario, "Office 365"), scenario.zero)
    >>> table.loc[0, "message_id"], int(table.loc[0, "code"]), str(table.loc[0, "created_at"])
    ('us-0', 250, '2026-12-01 09:00:00+09:00')
    """
    import pandas as pd

    messages = attempts.messages
    message = attempts["message"].astype(int)
    kind = attempts["kind"].astype(int)
    sender = messages.sender[message]
    created_at = messages.created_at[message]

    def said(position: int) -> Any:
        return np.array([kind[position] for kind in attempts.kinds], dtype=object)[kind]

    columns: dict[str, Any] = {
        "message_id": np.array(messages.ids(), dtype=object)[message],
        "label": np.array(messages.labels or ("",), dtype=object)[messages.label[message]],
        "tenant": np.array(messages.tenants, dtype=object)[messages.tenant[message]],
        "sender": np.array(messages.addresses, dtype=object)[sender],
        "recipients": messages.recipients[message],
        "bytes": messages.bytes[message],
        "ip": np.array([*attempts.ips, ""], dtype=object)[attempts["ip"].astype(int)],
        "provider": said(0),
        "retry": attempts["retry"].astype(int),
    }
    for name, seconds in (
        ("created_at", created_at),
        ("started_at", attempts["started"]),
        ("ended_at", attempts["ended"]),
    ):
        columns[name] = pd.Timestamp(zero) + pd.to_timedelta(seconds, unit="s")
        columns[f"{name}_s"] = seconds
    columns |= {
        "held": attempts["held"],
        "stage": said(4),
        "code": said(1).astype(int),
        "enhanced": said(2),
        "text": _texts(attempts, zero, said(3), columns["sender"], columns["ip"]),
        "limit": said(5),
        "final": attempts["final"] > 0,
        "session": attempts["session"].astype(int),
        "transaction": attempts["transaction"].astype(int),
    }
    return pd.DataFrame(columns)


def ledger(path: str | Path) -> "pd.DataFrame":
    """Read a ledger (DESIGN §8), a client's or a server's: one row a line, columns as they stand there.

    Parameters
    ----------
    path : str or Path
        A file of JSON Lines: ``client.jsonl`` or ``server.jsonl`` of `sendlab load --out`, or what `sendlab serve
        --ledger` writes. Times in it are scenario seconds.

    Returns
    -------
    DataFrame
        A row a line.

    Raises
    ------
    ValueError
        If a line can't be read; a last one that was cut off in the middle is left out.
    OSError
        If the file can't be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "server.jsonl")
    ...     _ = file.write_text('{"time": 1.5, "code": 250}' + chr(10))
    ...     ledger(file).to_dict("records")
    [{'time': 1.5, 'code': 250}]
    """
    import pandas as pd

    rows = []
    lines = Path(path).read_bytes().split(b"\n")  # what follows the last line's end was cut off
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            shown = line[:60].decode("utf-8", errors="replace")
            raise ValueError(f"{path}: line {number} must be a JSON object, got {shown!r}")
        rows.append(row)
    return pd.DataFrame(rows)


def _texts(attempts: Attempts, zero: dt.datetime, texts: Any, senders: Any, ips: Any) -> Any:
    """Fill the placeholders of the sentences in, as of the moment each reply left."""
    for row in np.flatnonzero(["{" in text for text in texts]).tolist():
        provider, account = attempts.queues[int(attempts["queue"][row])][1:]
        texts[row] = render(
            texts[row],
            provider=provider,
            clock=zero + dt.timedelta(seconds=float(attempts["ended"][row])),
            session=int(attempts["session"][row]),
            transaction=int(attempts["transaction"][row]),
            ip=ips[row],
            account=account or ips[row],
            sender=senders[row],
        )
    return texts
