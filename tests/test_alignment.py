"""Mail that neither SPF nor DKIM vouches for: what mailbox providers publish that they do to it, and who says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simlib.attempts import Attempts
from simlib.experiment import compare, run
from simlib.provider import Limit, Provider, names
from simlib.receiver import UNLISTED, Receiver
from simlib.replay import exact
from simlib.report import conclusion
from simlib.scenario import Scenario

REFUSED_OUTRIGHT = {"google-mx": (550, "5.7.26"), "yahoo-mx": (550, "5.7.9"), "apple-mx": (554, "5.7.1")}
LISTED = "127.0.1.1"


def question(to: Any, limits: dict[str, Any] | None = None, size: int = 40, **channel: Any) -> Scenario:
    carried = {"name": "pool", "tenants": ["us"], "to": to, **channel}
    return Scenario.build(
        {
            "name": "aligned?",
            "start": "2026-12-01T00:00",
            "duration": "2d",
            "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": size, "every": "20h"}}],
            "alternatives": {"pool": {"channels": [carried]}},
            "limits": limits or {},
        }
    )


def replies(attempts: Attempts) -> dict[tuple[str, int, str, str], int]:
    """Count the replies: provider, code, enhanced code, limit."""
    counts = np.bincount(attempts["kind"].astype(int), minlength=len(attempts.kinds)).tolist()
    return {(kind[0], kind[1], kind[2], kind[5]): n for kind, n in zip(attempts.kinds, counts, strict=True) if n}


@pytest.mark.parametrize("name", REFUSED_OUTRIGHT)
def test_who_asks_all_senders_to_authenticate_refuses_what_is_not(name: str) -> None:
    code, enhanced = REFUSED_OUTRIGHT[name]
    assert replies(run(question(name, aligned=False), "pool")) == {(name, code, enhanced, ""): 120}
    assert {code for _, code, *_ in replies(run(question(name), "pool"))} == {250}


def test_outlook_com_refuses_a_domain_s_unauthenticated_mail_beyond_5000_a_day() -> None:
    scenario = question("microsoft-mx", aligned=False, size=6000)
    limit = "microsoft-mx/unauthenticated-per-day"
    # batches at 0:00 and 20:00 of the first day, and at 16:00 of the second
    assert replies(run(scenario, "pool")) == {
        ("microsoft-mx", 250, "2.0.0", ""): 2 * 5000,
        ("microsoft-mx", 550, "5.7.515", limit): 3 * 6000 - 2 * 5000,
    }
    assert {code for _, code, *_ in replies(run(question("microsoft-mx", size=6000), "pool"))} == {250}
    assert {code for _, code, *_ in replies(run(scenario.replace(limits={limit: "off"}), "pool"))} == {250}
    assert {"id": limit, "grade": "A"} in scenario.rests_on(["pool"])
    assert limit not in {one["id"] for one in question("microsoft-mx").rests_on(["pool"])}


def test_authenticated_mail_does_not_use_the_unauthenticated_quota_up() -> None:
    receiver = Receiver(Provider.load("microsoft-mx").set({"unauthenticated-per-day": "1/d"}))

    def one(ip: str) -> int:
        session, _ = receiver.connect(ip, 0)
        receiver.ehlo(session, 0)
        receiver.offer(session, "rep01@us.example", 1, 0)
        return receiver.end_of_data(session, 1000, 0).code

    unlisted = f"{UNLISTED}1.1"
    assert [one(ip) for ip in (LISTED, LISTED, unlisted, LISTED, unlisted, LISTED)] == [250] * 4 + [550, 250]


def test_a_refused_try_uses_the_unauthenticated_quota_up() -> None:
    microsoft = Provider.load("microsoft-mx")
    limit = microsoft.limit("unauthenticated-per-day").model_dump(by_alias=True, exclude_unset=True)
    hourly = Limit.model_validate({**limit, "limit": "2/h", "window": "sliding", "anchor": None})
    receiver = Receiver(microsoft.model_copy(update={"limits": (hourly,)}))

    def one(now: float) -> int:
        session, _ = receiver.connect(f"{UNLISTED}1.1", now)
        receiver.ehlo(session, now)
        receiver.offer(session, "rep01@us.example", 1, now)
        return receiver.end_of_data(session, 1000, now).code

    moments = [0, 0, 1800, 1800, 3601, 7200, 7200]  # at 3601 s there are still the two tries of half past
    assert [one(now) for now in moments] == [250, 250, 550, 550, 550, 250, 550]


@pytest.mark.parametrize(
    "name", [name for name in names() if Provider.load(name).role == "delivery" and name not in REFUSED_OUTRIGHT]
)
def test_without_a_published_rule_nothing_is_refused(name: str) -> None:
    aligned, other = (replies(run(question(name, aligned=one), "pool")) for one in (True, False))
    assert aligned == other


def test_a_refused_message_counts_where_attempts_do() -> None:
    google = Provider.load("google-mx").set({"quota": "1/h"})
    limits = tuple(one.model_copy(update={"counts": "attempts"}) for one in google.limits)
    for provider, second in ((google, 550), (google.model_copy(update={"limits": limits}), 421)):
        receiver = Receiver(provider)
        codes: list[int] = []
        for _ in range(2):
            session, _ = receiver.connect(f"{UNLISTED}1.1", 0)
            receiver.ehlo(session, 0)
            receiver.offer(session, "rep01@us.example", 1, 0)
            codes.append(receiver.end_of_data(session, 1000, 0).code)
        assert codes == [550, second]


def test_where_mail_is_taken_by_login_alignment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channels\[pool\]: aligned: is about mailbox providers") as refused:
        question("office365", aligned=False)
    assert "office365 takes mail from whoever logs in: leave it out, got false" in str(refused.value)
    assert question("office365", aligned=True).lanes("pool")[0].channel.aligned


def test_a_listed_ip_is_named_by_its_own_address() -> None:
    scenario = question("generic-mx", aligned=False, ips=2)
    scenario = scenario.replace(events=[{"kind": "blocklisted", "at": "0s", "channel": "pool", "ip": 2}])
    found = scenario.incidents(scenario.lanes("pool"), lambda *_: np.random.default_rng(1))
    assert [(one.kind, one.targets) for one, _ in found] == [("blocklisted", ("127.1.1.2",))]
    assert {scenario.lanes("pool")[0].channel.addresses(1)[1]} == {"127.1.1.2"}


def test_the_fakes_know_it_by_the_address(tmp_path: Path) -> None:
    scenario = question(
        {"google-mx": 0.25, "microsoft-mx": 0.5, "yahoo-mx": 0.25},
        {"microsoft-mx/unauthenticated-per-day": "30/d"},
        aligned=False,
    )
    found = exact(tmp_path, scenario, "pool")
    assert found.differences == ()
    assert {code for _, code, *_ in replies(run(scenario, "pool"))} == {250, 550}


def test_the_answer_says_so_and_what_is_left_out() -> None:
    def said(scenario: Scenario) -> str:
        return " ".join(line.strip() for line in conclusion(compare(scenario, replications=1), {}))

    text = said(question({"google-mx": 0.5, "generic-mx": 0.5}, aligned=False))
    assert "Neither SPF nor DKIM vouches for the senders' own domains: pool." in text
    assert "By their published rules for such mail answer: google-mx." in text
    assert "No rule is known of, and none applied: generic-mx." in text
    assert "Mail that passes either for another domain, such as the tool's own in the envelope, isn't meant" in text
    assert "Left out: What providers think of the sender's own domain" in text
    assert "reputation/domain_reputation" in text
    plain = said(question({"google-mx": 0.5, "generic-mx": 0.5}))
    assert "SPF" not in plain
    assert "Left out" not in plain


def test_reputation_without_a_limit_to_scale_says_that_it_changes_nothing() -> None:
    def said(limits: dict[str, Any]) -> str:
        scenario = question("google-mx", limits).replace(reputation=True)
        return " ".join(line.strip() for line in conclusion(compare(scenario, replications=1), {}))

    assert "Reputation is on, but no limit per IP is" in said({})
    assert "Reputation is on" not in said({"google-mx/quota": "100/h"})
    assert "Left out: What providers think of the sender's own domain" in said({})


def test_the_team_s_default_pool_is_what_its_vendor_says_and_the_same_pool_is_there_with_authentication() -> None:
    scenario = Scenario.load(Path(__file__).parents[1] / "notebooks" / "scenarios" / "team_day.toml")
    (pool,), (other,) = (
        scenario.alternatives[name].channels for name in ("Default pool", "Shared pool, authenticated")
    )
    assert next(iter(scenario.alternatives)) == "Default pool"
    assert (pool.aligned, other.aligned) == (False, True)
    assert "aligned" in pool.assumed
    same = {"name": "pool", "aligned": True, "assumed": ()}
    assert pool.model_copy(update=same) == other.model_copy(update=same)
