"""The record as a table: one row an attempt, as DESIGN §8 has it."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.attempts import Attempts
from simlib.receiver import render, said_id

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame", "ledger", "write"]

Ints = np.typing.NDArray[np.int64]


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
    import pyarrow as pa
    import pyarrow.compute as pc

    messages = attempts.messages
    message = attempts["message"].astype(int)
    kind = attempts["kind"].astype(int)
    sender, tenant = messages.sender[message], messages.tenant[message]
    ip = attempts["ip"].astype(int)

    def text(values: Iterable[str], positions: Ints) -> Any:
        """Put what is said many times in place of its positions: no row is an object of its own."""
        return pa.array(values, pa.large_string()).take(pa.array(positions))

    def said(position: int) -> Any:
        return text([str(kind[position]) for kind in attempts.kinds], kind)

    ids = text([f"{name}-" for name in messages.quoted()], tenant)
    numbers = pa.array(messages.number[message]).cast(pa.large_string())
    addresses = [*attempts.ips, ""]
    columns: dict[str, Any] = {
        "message_id": pc.binary_join_element_wise(ids, numbers, pa.scalar("", pa.large_string())),
        "label": text(messages.labels or ("",), messages.label[message]),
        "tenant": text(messages.tenants, tenant),
        "sender": text(messages.addresses, sender),
        "recipients": messages.recipients[message],
        "bytes": messages.bytes[message],
        "ip": text(addresses, ip % len(addresses)),
        "provider": said(0),
        "retry": attempts["retry"].astype(int),
    }
    for name, seconds in (
        ("created_at", messages.created_at[message]),
        ("started_at", attempts["started"]),
        ("ended_at", attempts["ended"]),
    ):
        columns[name] = (pd.Timestamp(zero) + pd.to_timedelta(seconds, unit="s")).as_unit("ns")  # with no rows, too
        columns[f"{name}_s"] = seconds
    columns |= {
        "held": attempts["held"],
        "stage": said(4),
        "code": np.array([kind[1] for kind in attempts.kinds], dtype=int)[kind],
        "enhanced": said(2),
        "text": text(*_texts(attempts, zero, kind, sender, ip)),
        "limit": said(5),
        "final": attempts["final"] > 0,
        "session": attempts["session"].astype(int),
        "transaction": attempts["transaction"].astype(int),
    }
    columns |= {name: pd.array(c, dtype="str") for name, c in columns.items() if isinstance(c, pa.Array)}
    return pd.DataFrame(columns)


RECURRING = (
    *("alternative", "replication", "label", "tenant", "sender", "ip", "provider", "retry"),
    *("recipients", "bytes", "stage", "code", "enhanced", "limit", "transaction"),
)
"""Columns whose values recur; a dictionary of the others, numbers and moments, is time and space for nothing."""


def write(frames: "Iterable[pd.DataFrame]", path: Path, about: Mapping[str, str]) -> None:
    """Write tables of the record as one Parquet file, a row group each, so that they needn't fit into memory together.

    Parameters
    ----------
    frames : iterable of DataFrame
        As of `frame`, at least one, all with the same columns.
    path : Path
        The file; one that is there is overwritten.
    about : mapping of str to str
        What to note in the file's metadata.

    Raises
    ------
    OSError
        If the file can't be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import pandas as pd
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "attempts.parquet")
    ...     write([pd.DataFrame({"code": [250, 250]}), pd.DataFrame({"code": [421]})], file, {"seed": "1"})
    ...     pd.read_parquet(file)["code"].tolist()
    [250, 250, 421]
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    first = next(tables)
    noted = {key.encode(): value.encode() for key, value in about.items()}
    schema = first.schema.with_metadata({**(first.schema.metadata or {}), **noted})
    recurring = [name for name in RECURRING if name in schema.names]
    with pq.ParquetWriter(path, schema, use_dictionary=recurring) as writer:
        for table in chain([first], tables):
            writer.write_table(table.cast(schema))


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


def _texts(attempts: Attempts, zero: dt.datetime, kind: Ints, sender: Ints, ip: Ints) -> tuple[list[str], Ints]:
    """Return sentences, placeholders filled in as of the moment each reply left, and which of them each row has."""
    found = [text for _, _, _, text, _, _ in attempts.kinds]
    which = kind.copy()
    for number, (provider, _, _, text, _, _) in enumerate(attempts.kinds):
        if "{" not in text:
            continue
        rows = np.flatnonzero(kind == number)
        which[rows] = np.arange(len(found), len(found) + len(rows))
        sessions, transactions = (attempts[name][rows].astype(int).tolist() for name in ("session", "transaction"))
        before, id_, after = text.partition("{id}")
        if id_ and not {"{", "}"} & {*before, *after}:  # most of a long record: accepted, queued as so and so
            found += [f"{before}{said_id(provider, *one)}{after}" for one in zip(sessions, transactions, strict=True)]
            continue
        queues, ended = attempts["queue"][rows].astype(int).tolist(), attempts["ended"][rows].tolist()
        for queue, moment, session, transaction, own, place in zip(
            queues, ended, sessions, transactions, sender[rows].tolist(), ip[rows].tolist(), strict=True
        ):
            address = attempts.ips[place] if place >= 0 else ""
            found.append(
                render(
                    text,
                    provider=provider,
                    clock=zero + dt.timedelta(seconds=moment),
                    session=session,
                    transaction=transaction,
                    ip=address,
                    account=attempts.queues[queue][2] or address,
                    sender=attempts.messages.addresses[own],
                )
            )
    return found, which
