"""Logs whose lines are JSON, or rows of CSV: KumoMTA's records, events of Amazon SES and SparkPost, one's own table.

The formats are those of https://docs.kumomta.com/reference/log_record/,
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html and
https://developers.sparkpost.com/api/events/; of each, one JSON document a line. What SES and SparkPost tell are the
replies of the mailbox providers to them, not theirs to us.
"""

import csv
import datetime as dt
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parseaddr
from typing import Any

from simlib.logs import Arrived, Clock, Replied, Row, said, stage_of
from simlib.provider import STAGES

__all__ = ["Csv", "KumoMta", "Ses", "SparkPost"]


def _document(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON document") from None


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
        raise ValueError(f"{name} is missing or no text, got {value!r}")
    return str(value)


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


class KumoMta:
    """Reads KumoMTA's log records.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def read(self, line: str) -> list[Row] | None:
        """Return what a record says; None if it is about no attempt."""
        record = _document(line)
        if not isinstance(record, dict):
            raise ValueError("must be a JSON object")
        kind = _text(record, "type")
        if kind not in ("Reception", "Delivery", "TransientFailure", "Bounce"):
            return None
        to = record.get("recipient")
        recipients = len(to) if isinstance(to, list) else 1
        sender, size = str(record.get("sender") or ""), int(record.get("size") or 0)
        created = self._clock.iso(_text(record, "created"))
        rows: list[Row] = [Arrived(created, _text(record, "id"), sender, recipients, size)]
        response = record.get("response") or {}
        if kind == "Reception" or not isinstance(response, dict) or not response.get("code"):
            return rows
        parts = response.get("enhanced_code") or {}
        enhanced = ".".join(str(parts[name]) for name in ("class", "subject", "detail")) if parts else ""
        address = str((record.get("source_address") or {}).get("address") or "")
        rows.append(
            Replied(
                self._clock.iso(_text(record, "timestamp")),
                None,
                None,
                str((record.get("peer_address") or {}).get("name") or "").rstrip(".").lower(),
                str(record.get("session_id") or ""),
                address.rpartition(":")[0].strip("[]") or str(record.get("egress_source") or ""),
                "",
                sender,
                recipients,
                size,
                stage_of(str(response.get("command") or ".")),
                int(response["code"]),
                enhanced,
                str(response.get("content") or ""),
            )
        )
        return rows

    def finish(self) -> Iterable[Row]:
        """Return nothing: each record stands by itself."""
        return ()


class Ses:
    """Reads the events of Amazon SES, as published or wrapped in a notification of SNS.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def read(self, line: str) -> list[Row] | None:
        """Return what an event says; None if it is about no attempt."""
        event = _document(line)
        if isinstance(event, dict) and isinstance(event.get("Message"), str):
            event = _document(event["Message"])
        if not isinstance(event, dict):
            raise ValueError("must be a JSON object")
        kind = event.get("eventType") or event.get("notificationType")
        if kind not in ("Send", "Delivery", "Bounce", "DeliveryDelay"):
            if not isinstance(kind, str):
                raise ValueError("eventType is missing")
            return None
        mail = event.get("mail")
        if not isinstance(mail, dict):
            raise ValueError("mail is missing")
        sender = parseaddr(_text(mail, "source"))[1]
        to = mail.get("destination") or []
        sent = self._clock.iso(_text(mail, "timestamp"))
        rows: list[Row] = [Arrived(sent, _text(mail, "messageId"), sender, max(1, len(to)), 0)]
        return rows + [self._reply(event, sender, *one) for one in _answers(kind, event)]

    def _reply(self, event: Mapping[str, Any], sender: str, moment: str, to: str, count: int, answer: str) -> Replied:
        code, enhanced, text = said(answer)
        at = self._clock.iso(moment)
        return Replied(at, None, None, f"@{_domain(to)}", "", "", "", sender, count, 0, "EOD", code, enhanced, text)

    def finish(self) -> Iterable[Row]:
        """Return nothing: each event stands by itself."""
        return ()


def _answers(kind: str, event: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    """Yield when which reply was given about a recipient of some, and how many."""
    if kind == "Send":
        return
    if kind == "Delivery":
        delivery = event.get("delivery") or {}
        to = [str(one) for one in delivery.get("recipients") or []]
        yield _text(delivery, "timestamp"), to[0] if to else "", max(1, len(to)), _text(delivery, "smtpResponse")
        return
    part, name = ("bounce", "bouncedRecipients") if kind == "Bounce" else ("deliveryDelay", "delayedRecipients")
    told = event.get(part) or {}
    found: Counter[tuple[str, str]] = Counter()
    for one in told.get(name) or []:
        if one.get("diagnosticCode"):  # else nothing was said, or not in SMTP
            answer = re.sub(r"^smtp;\s*", "", str(one["diagnosticCode"]), flags=re.IGNORECASE)
            found[_domain(str(one.get("emailAddress") or "")), answer] += 1
    for (domain, answer), count in found.items():
        yield _text(told, "timestamp"), domain, count, answer


class SparkPost:
    """Reads SparkPost's message events: of its events API, of a webhook's batch, or one a line.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def read(self, line: str) -> list[Row] | None:
        """Return what the events of a line say; None if they are about no attempt."""
        found = _document(line)
        if isinstance(found, dict) and isinstance(found.get("results"), list):
            found = found["results"]
        rows: list[Row] = []
        for event in found if isinstance(found, list) else [found]:
            rows += self._event(event)
        return rows or None

    def _event(self, event: Any) -> Iterator[Row]:
        if isinstance(event, dict) and isinstance(event.get("msys"), dict):
            event = next(iter(event["msys"].values()), {})
        if not isinstance(event, dict):
            raise ValueError("must be an event, a list of events or an object with results")
        kind = _text(event, "type")
        if kind not in ("injection", "delivery", "delay", "bounce"):
            return
        sender = str(event.get("friendly_from") or event.get("msg_from") or "")
        size = int(event.get("msg_size") or 0)
        at = self._clock.iso(_text(event, "timestamp"))
        begun = self._clock.iso(str(event["injection_time"])) if event.get("injection_time") else at
        yield Arrived(begun, _text(event, "message_id"), sender, 1, size)
        if kind == "injection":
            return
        if kind == "delivery":
            code, enhanced, text = 250, "", ""
        else:
            code, enhanced, text = said(str(event.get("raw_reason") or event.get("reason") or ""))
            if not code and str(event.get("error_code") or "").isdigit():
                code = int(event["error_code"])
        to = str(event.get("mailbox_provider") or f"@{_domain(str(event.get('rcpt_to') or ''))}")
        ip = str(event.get("sending_ip") or "")
        yield Replied(at, None, None, to, "", ip, "", sender, 1, size, "EOD", code, enhanced, text)

    def finish(self) -> Iterable[Row]:
        """Return nothing: each event stands by itself."""
        return ()


class Csv:
    """Reads a table: a row a message, with what was said to it if that is known.

    Columns: `time`; `sender` or `mail_from`; optionally `message_id`, `recipients`, `bytes`, and the reply table's.

    Parameters
    ----------
    clock : Clock
        How its times are to be read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._columns: list[str] = []
        self._rows = 0
        self._begun = ""

    def read(self, line: str) -> list[Row] | None:
        """Return what a row says; None for the row of names."""
        if self._begun or line.count('"') % 2:
            self._begun += line + "\n"
            if self._begun.count('"') % 2:
                return []  # a cell goes on in the next line
            line, self._begun = self._begun.removesuffix("\n"), ""
        (cells,) = csv.reader(io.StringIO(line))
        if not self._columns:
            self._columns = [cell.strip() for cell in cells]
            missing = [name for name in ("time",) if name not in self._columns]
            if missing or not {"sender", "mail_from"} & set(self._columns):
                raise ValueError("the first row must name the columns, time and sender among them")
            return None
        if len(cells) != len(self._columns):
            raise ValueError(f"must have {len(self._columns)} columns, got {len(cells)}")
        row = dict(zip(self._columns, cells, strict=True))
        self._rows += 1
        at = self._clock.iso(row["time"])
        sender = row.get("mail_from") or row.get("sender") or ""
        recipients, size = _count(row, "recipients", 1), _count(row, "bytes", 0)
        took, setup = _seconds(row, "took"), _seconds(row, "setup")
        began = at - dt.timedelta(seconds=took or 0.0)
        rows: list[Row] = [Arrived(began, row.get("message_id") or f"row {self._rows}", sender, recipients, size)]
        if row.get("code"):
            code = _count(row, "code", 0)
            stage = next((one for one in STAGES if one == (row.get("stage") or "EOD")), None)
            if stage is None or not (code == 0 or 200 <= code < 600):
                raise ValueError(f"stage or code unknown, got {row.get('stage')!r} and {row['code']!r}")
            provider, session, ip, account, enhanced, text = (
                row.get(name) or "" for name in ("provider", "session", "ip", "account", "enhanced", "text")
            )
            where = (provider, session, ip, account)
            rows.append(Replied(at, took, setup, *where, sender, recipients, size, stage, code, enhanced, text))
        return rows

    def finish(self) -> Iterable[Row]:
        """Return nothing: each row stands by itself."""
        return ()


def _count(row: Mapping[str, str], name: str, default: int) -> int:
    text = row.get(name) or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    return int(text)


def _seconds(row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, got {text!r}")
    return seconds
