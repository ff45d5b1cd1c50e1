"""Every published amount of every provider, under each reading, tripped exactly and answered as published."""

import datetime as dt
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from receivers import Client, receiver_of

from simlib.provider import Limit, Provider, Reply, names
from simlib.receiver import Receiver


def published() -> Iterator[tuple[str, str, str]]:
    """Every limit of every provider that has an amount, and every other reading of it."""
    for name in names():
        for limit in Provider.load(name).limits:
            for reading in ("", *(reading["name"] for reading in limit.readings)):
                if (limit.read_as(reading) if reading else limit).limit is not None:
                    yield name, limit.id, reading


def as_published(name: str, limit: str, reading: str) -> dict[str, Any]:
    """The limit as its file has it, read without our own reader."""
    data = tomllib.loads((files("simlib") / "providers" / f"{name}.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = next(entry for entry in data["limits"] if entry["id"] == limit)
    if reading:
        other = next(entry for entry in found["readings"] if entry["name"] == reading)
        if other.get("on_excess") in ("hold_reply", "accept_late"):
            found.pop("reply", None)
        found = {**found, **other}
    return found


def fill(receiver: Receiver, limit: Limit) -> tuple[list[Reply], Client]:
    """Use an amount up exactly: the replies on the way, and a client that would exceed it with whatever comes next."""
    assert limit.limit is not None
    amount, client = int(limit.limit.amount), Client(receiver)
    if limit.count == "messages":
        replies = [client.send(0) for _ in range(amount)]
    elif limit.count == "connections":
        replies = [Client(receiver).send(0) for _ in range(amount)]
        client = Client(receiver)
    elif limit.count == "transactions":
        replies = [Client(receiver).begin(0) for _ in range(amount)]
    elif limit.per == "message":
        replies = [client.send(0, size=amount) if limit.count == "bytes" else client.send(0, amount)]
    else:
        replies = [client.send(0, amount - 1), client.send(0, 1)] if amount > 1 else [client.send(0, 1)]
    if STAGES_BEFORE_MAIL & {limit.at}:
        client = Client(receiver)
    return replies, client


STAGES_BEFORE_MAIL = {"CONNECT", "EHLO", "AUTH"}


@pytest.mark.parametrize(
    ("name", "limit_id", "reading"), [pytest.param(*case, id="/".join(case)) for case in published()]
)
def test_a_published_amount_passes_and_one_more_is_answered_as_published(
    name: str, limit_id: str, reading: str
) -> None:
    facts = Provider.load(name).on(dt.date(2026, 6, 1))
    facts = facts.read_as({limit_id: reading} if reading else {})
    facts = facts.set({other.id: "off" for other in facts.limits if other.id != limit_id})
    limit, entry = facts.limit(limit_id), as_published(name, limit_id, reading)
    assert limit.limit is not None
    assert str(entry["limit"]) == str(limit.limit)
    receiver = receiver_of(facts, dt.datetime(2026, 6, 1))

    replies, client = fill(receiver, limit)
    assert {(reply.code < 400, reply.limit, reply.held) for reply in replies} == {(True, "", 0.0)}

    def one_more(now: float) -> Reply:
        if limit.per == "message":
            amount = int(entry["limit"]) + 1
            return client.send(now, size=amount) if limit.count == "bytes" else client.send(now, amount)
        if limit.at in STAGES_BEFORE_MAIL:
            return Client(receiver).send(now)
        return client.send(now)

    reply = one_more(0)
    assert reply.limit == f"{name}/{limit_id}"
    if entry["on_excess"] in ("hold_reply", "accept_late"):
        assert limit.limit.period is not None
        assert (reply.code, reply.held) == (250, limit.limit.period)
        assert reply.delay == (reply.held if entry["on_excess"] == "hold_reply" else 0)
    else:
        assert reply.stage == entry["at"]
        wire = " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)
        if "reply" in entry:
            assert wire == entry["reply"].replace("{limit}", str(entry["limit"]))
        else:
            assert reply.text == f"sendlab: {name}/{limit_id}, text not published"
            assert reply.code // 100 == (5 if entry["on_excess"] == "reject" else 4)
        assert (entry["on_excess"] == "close") == reply.closes

    if limit.limit.period is not None:
        refused_until = limit.limit.period
        assert one_more(refused_until - 1).limit == f"{name}/{limit_id}"
        assert one_more(refused_until).limit == ""


def test_what_is_off_refuses_nothing() -> None:
    for name in names():
        receiver = receiver_of(Provider.load(name).on(dt.date(2026, 6, 1)))
        ids = {rule.id for rule in receiver.rules}
        off = [limit.id for limit in receiver.provider.limits if limit.limit is None]
        assert not {f"{name}/{limit}" for limit in off} & ids
