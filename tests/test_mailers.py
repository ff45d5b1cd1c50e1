"""Mailers that others wrote are audited, and AUDIT.md still says what they do: those rules that are quickly tried.

`make audit` tries all of them and writes it again.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import pytest
from mailers import MAILERS, MARKS, ROOT, TABLES, audit, missing

RULES = {"Postfix": "backoff", "Exim": "backoff"}  # they wait, and are there for that
FEW = "permanent,starttls"
SCALE = 100.0


def lacking(name: str) -> str:
    """Say why a mailer can't be audited here; empty if it can."""
    needs = missing(name)
    if name in ("aiosmtplib", "Django") and find_spec(name.lower()) is None:
        needs = [name]
    if name in RULES and os.geteuid() != 0:
        return f"{name} starts as root only"
    return f"{', '.join(needs)} isn't here (.ci/run installs it)" if needs else ""


@pytest.fixture(scope="module")
def audits() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """All of them at a time, since they mostly wait."""
    with ThreadPoolExecutor(4) as pool:
        yield {
            name: pool.submit(audit, name, "office365", "--rules", RULES.get(name, FEW), scale=SCALE)
            for name in reversed(MAILERS)
            if not lacking(name)
        }


def written(name: str, rule: str) -> str:
    """Return what AUDIT.md says of a mailer at Office 365."""
    _, _, table = (ROOT / "AUDIT.md").read_text(encoding="utf-8").partition(f"## {TABLES['office365']}")
    head, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:1] == "|"]
    row = next(row for row in rows if row[0].startswith(f"{name} "))
    return row[head.index(f"`{rule}`")]


@pytest.mark.parametrize("name", MAILERS)
def test_a_mailer_does_what_is_written_of_it(audits: dict[str, Future[dict[str, Any]]], name: str) -> None:
    if why := lacking(name):
        pytest.skip(why)
    found = audits[name].result()["rules"]
    assert {rule: MARKS[one["verdict"]] for rule, one in found.items()} == {rule: written(name, rule) for rule in found}


def test_audit_md_has_a_row_for_every_mailer_and_a_verdict_for_every_rule() -> None:
    text = (ROOT / "AUDIT.md").read_text(encoding="utf-8")
    for about in TABLES.values():
        assert f"## {about}" in text
    rows = re.findall(r"^\| (\w+) \S.*?((?:\| (?:yes|\*\*no\*\*|–) )+)\|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [*MAILERS] * len(TABLES)
    assert {cells.count("|") for _, cells in rows} == {10}
