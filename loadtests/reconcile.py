"""``python -m loadtests.reconcile CLIENT… --server SERVER…``: what became of every message, from both sides' ledgers.

The verdicts, the first that applies:

phantom
    A server or the relay's queue has it, or a failure report about it came, and no attempt that a client wrote down
    can have handed it over: no client knows it, or each of its attempts was refused or ended before the dot.
duplicate
    Servers accepted it for more recipients than it has, or clients have more than one 2yz for it.
ambiguous
    No client has a 2yz, and the last word is a reply to the dot that was lost, whether a server has it or not; or an
    earlier one was lost and a server has it, though the client heard of a refusal later.
lost
    A client has a 2yz, and not all of its recipients are accounted for by servers, queue and failure reports.
waiting
    It is in the relay's queue, or the client has no final outcome, or it was never offered.
refused_and_reported
    A client has a 2yz, and a failure report came about a recipient at least.
delivered
    A client has a 2yz, and servers accepted it for all its recipients.
refused
    The client's last word is final: a 5yz, or it was given up after a 4yz or without a reply (`Books.expired`).

A generator that was killed left ``client.underway`` beside its ledger, and the plan: what it was offering then is
ambiguous if a server has it, and waiting if not; what it never came to is waiting.

Recipients are compared by number, since a server's line has only how many there were: a message that a relay splits is
no duplicate as long as the parts add up. Mail from the null sender is a report about a message, never a message.
"""

import argparse
import gc
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

from pydantic_core import from_json

from loadtests.underway import beside
from simlib import argument

__all__ = ["Attempt", "Books", "Example", "Outcome", "Queued", "Verdict", "reconcile"]

Verdict = Literal[
    "delivered", "refused", "refused_and_reported", "waiting", "lost", "duplicate", "phantom", "ambiguous"
]
UNBALANCED: Final[tuple[Verdict, ...]] = ("lost", "duplicate", "phantom")
SHOWN: Final[tuple[Verdict, ...]] = (*UNBALANCED, "ambiguous")
EXAMPLES: Final = 10  # of each verdict
DAMAGED: Final = 20  # lines that can't be read, said one by one

Line = TypeVar("Line")


# Lines


class Attempt(NamedTuple):
    """A line of a client's ledger, as far as it matters here.

    Parameters
    ----------
    message_id : str
        Whose attempt.
    recipients : int
        How many the message has.
    retry : int
        0 for the first attempt.
    started_at, ended_at : float or None
        In scenario seconds; None: never offered, and cut off (the run ended, or the generator was killed).
    stage : str
        The one that was answered last, or that was not answered; ``EOD`` after the dot, empty if never offered.
    code : int
        Of the reply; 0 if there was none.
    text : str
        Of the reply; Postfix and Exim name their queue id in it.
    final : bool
        Whether the attempt decided the message.
    """

    message_id: str
    recipients: int
    retry: int
    started_at: float | None
    ended_at: float | None
    stage: str
    code: int
    text: str
    final: bool


class Outcome(NamedTuple):
    """A line of a server's ledger, as far as it matters here.

    Parameters
    ----------
    time : float
        In scenario seconds.
    provider : str
        Who answered.
    session : int
        In which of its sessions.
    mail_from : str
        Empty for the null sender.
    recipients : int
        How many the server took the message for, or refused it for.
    message_id : str
        Empty if it was refused before it could be known.
    code : int
        Of the reply; 0: the connection ended instead, and it wasn't taken.
    limit : str
        The one that refused it, or empty.
    about : str
        The message that this one is a report about; empty if it is none.
    failed : tuple of str
        The recipients that the report says delivery failed to.
    """

    time: float
    provider: str
    session: int
    mail_from: str
    recipients: int
    message_id: str
    code: int
    limit: str
    about: str = ""
    failed: tuple[str, ...] = ()


class Queued(NamedTuple):
    """A message in a relay's queue.

    Parameters
    ----------
    queue_id : str
        The relay's name for it.
    sender : str
        Its envelope's; ``MAILER-DAEMON`` for the null sender.
    recipients : int
        Those it still has to go to.
    message_id : str
        Empty if the queue doesn't say; the queue id is then looked for in the replies that clients have.
    about : str
        The message that this one is a report about; empty if it is none, or unknown.
    """

    queue_id: str
    sender: str
    recipients: int
    message_id: str = ""
    about: str = ""


# Books


class Example(NamedTuple):
    """One message of a verdict.

    Parameters
    ----------
    message_id : str
        Which.
    why : str
        What decided it.
    client, server : str
        What each side says.
    """

    message_id: str
    why: str
    client: str
    server: str


@dataclass(frozen=True, slots=True)
class Books:
    """What became of every message.

    Parameters
    ----------
    messages : dict
        How many there are of each verdict; they add up to all messages.
    verdicts : dict
        The verdict about each message, by id.
    expired : int
        Of the refused ones, those that the client gave up after a 4yz or without a reply.
    unmatched : int
        Entries of the queue that no message could be found for; reports without a name are not counted.
    examples : dict
        The first 10 of each verdict that somebody has to look into.
    """

    messages: dict[Verdict, int]
    verdicts: dict[str, Verdict]
    expired: int
    unmatched: int
    examples: dict[Verdict, tuple[Example, ...]]

    @property
    def balances(self) -> bool:
        """Whether nothing is lost, nothing is there twice, and nothing came out of nowhere."""
        return not any(self.messages[verdict] for verdict in UNBALANCED)


# What a client's attempt amounts to
_NEVER: Final = "was never offered"
_WAITS: Final = "is not final"
_CUT: Final = "was cut off: the run ended, or its generator was killed"
_GIVEN_UP: Final = "was the last: given up"
_REFUSED: Final = "is a refusal for good"
_NO_REPLY: Final = "the reply to the dot was lost"
_TAKEN: Final = "took it"


def _word(line: Attempt) -> str:
    if 200 <= line.code < 300:
        return _TAKEN
    if line.started_at is None:
        return _NEVER
    if line.code == 0 and line.stage == "EOD":
        return _NO_REPLY
    if line.ended_at is None:
        return _CUT
    if not line.final:
        return _WAITS
    return _REFUSED if line.code >= 500 else _GIVEN_UP


@dataclass(slots=True)
class _Story:
    """What the lines say about one message, added up."""

    recipients: int = 0
    taken: int = 0  # attempts that a client has a 2yz for
    unsure: int = 0  # attempts that may have handed it over without the client's knowledge
    retry: int = -1  # the last attempt's
    started_at: float = -math.inf
    word: str = ""  # what the last attempt amounts to
    code: int = 0
    accepted: int = 0  # by servers: how often, and for how many recipients
    arrived: int = 0
    queued: int = 0  # recipients
    failed: frozenset[str] = frozenset()  # recipients, as reports name them
    report_queued: bool = False
    refusal: str = ""  # a server's


def reconcile(clients: Iterable[Attempt], servers: Iterable[Outcome], queue: Iterable[Queued] = ()) -> Books:
    """Return what became of every message that is in any ledger; the order of the lines doesn't matter.

    Parameters
    ----------
    clients, servers : iterable of Attempt, Outcome
        The lines of all generators, and of all servers.
    queue : iterable of Queued
        What the relay has in its queue, if there is one.

    Returns
    -------
    Books
        With a verdict for each message.

    Examples
    --------
    >>> sent = Attempt("us-1", 1, 0, started_at=0.0, ended_at=0.2, stage="EOD", code=250, text="Ok", final=True)
    >>> took = Outcome(0.1, "office365", 1, "rep01@us.example", 1, "us-1", code=250, limit="")
    >>> reconcile([sent], [took]).verdicts
    {'us-1': 'delivered'}
    >>> reconcile([sent], []).balances
    False
    """
    stories: dict[str, _Story] = {}
    nameless: dict[str, Queued] = {}
    for entry in queue:
        if entry.message_id and entry.sender != "MAILER-DAEMON":
            _story(stories, entry.message_id).queued += entry.recipients
        elif entry.about:
            _story(stories, entry.about).report_queued = True
        elif entry.sender != "MAILER-DAEMON":
            nameless[entry.queue_id] = entry
    _add_clients(stories, clients, nameless)
    _add_servers(stories, servers)

    messages: dict[Verdict, int] = dict.fromkeys(get_args(Verdict), 0)
    verdicts: dict[str, Verdict] = {}
    shown: dict[Verdict, list[str]] = {verdict: [] for verdict in SHOWN}
    expired = 0
    for message_id, story in stories.items():
        verdict, why = _verdict(story)
        verdicts[message_id] = verdict
        messages[verdict] += 1
        expired += why == _GIVEN_UP
        if verdict in shown:
            shown[verdict].append(message_id)
    examples = {
        verdict: tuple(_example(message_id, stories[message_id]) for message_id in nsmallest(EXAMPLES, ids))
        for verdict, ids in shown.items()
    }
    return Books(messages, verdicts, expired, len(nameless), examples)


def _story(stories: dict[str, _Story], message_id: str) -> _Story:
    story = stories.get(message_id)
    if story is None:
        story = stories[message_id] = _Story()
    return story


def _add_clients(stories: dict[str, _Story], lines: Iterable[Attempt], nameless: dict[str, Queued]) -> None:
    """Add what clients say; entries of the queue that a reply names are taken out of `nameless`."""
    for line in lines:
        word = _word(line)
        story = _story(stories, line.message_id)
        story.recipients = max(story.recipients, line.recipients)
        if word == _TAKEN:
            story.taken += 1
            if nameless:
                for name in re.findall(r"[0-9A-Za-z-]+", line.text):
                    if name in nameless:
                        story.queued += nameless.pop(name).recipients
        elif word in (_NO_REPLY, _CUT):
            story.unsure += 1
        started_at = -math.inf if line.started_at is None else line.started_at
        # words take part so that lines which say different things of one moment are read alike in any order
        last = (story.retry, story.started_at, story.word, story.code)
        last = max(last, (line.retry, started_at, word, line.code))
        story.retry, story.started_at, story.word, story.code = last


def _add_servers(stories: dict[str, _Story], lines: Iterable[Outcome]) -> None:
    """Add what servers say."""
    for line in lines:
        if line.mail_from in ("", "<>"):
            if line.about and line.failed and 200 <= line.code < 300:
                story = _story(stories, line.about)
                story.failed = story.failed.union(line.failed)
        elif 200 <= line.code < 300:
            message_id = line.message_id
            if not message_id:  # taken from somebody whose mail has no id: nobody can say that he sent it
                message_id = f"(no id: {line.provider}, session {line.session}, {line.time:g} s)"
                while message_id in stories:
                    message_id += "'"
            story = _story(stories, message_id)
            story.accepted += 1
            story.arrived += line.recipients
        elif line.message_id and line.code:
            story = _story(stories, line.message_id)
            story.refusal = max(story.refusal, f"{line.code} {line.limit}".rstrip())


def _verdict(story: _Story) -> tuple[Verdict, str]:
    """Return the verdict, and what decided it."""
    accounted = story.arrived + story.queued + len(story.failed)
    there = accounted > 0 or story.report_queued
    if not story.taken + story.unsure:
        if there or not story.word:
            return "phantom", "no client sent it" if not story.word else "none of its attempts was accepted"
        return _by_word(story)
    if story.arrived > story.recipients:
        return "duplicate", "servers accepted it more than once"
    if not story.taken:
        if story.word == _NO_REPLY:
            return "ambiguous", "the reply was lost; " + ("it got there" if there else "no server has it")
        if there:
            return "ambiguous", "a reply was lost; it got there, and the client doesn't know"
        return _by_word(story)
    if accounted < story.recipients and not story.report_queued:
        if accounted:
            return "lost", f"{story.recipients - accounted} of {story.recipients} recipients are missing"
        return "lost", "a server refused it, and no report came" if story.refusal else "no server has it"
    if story.taken > 1:
        return "duplicate", "clients handed it over more than once"
    if story.queued or story.report_queued:
        return "waiting", "in the queue"
    if story.failed:
        return "refused_and_reported", "a failure report came"
    return "delivered", _TAKEN


def _by_word(story: _Story) -> tuple[Verdict, str]:
    """Return what the client's last word says of a message that nobody has."""
    return "refused" if story.word in (_REFUSED, _GIVEN_UP) else "waiting", story.word


def _example(message_id: str, story: _Story) -> Example:
    client = "no line"
    if story.word:
        reply = "" if story.word in (_NEVER, _CUT, _NO_REPLY) else f"{story.code or 'no reply'}, "
        at = "" if story.word == _NEVER else f"attempt {story.retry + 1} at {story.started_at:g} s: "
        client = f"{at}{reply}{story.word}"
        if story.taken > 1:
            client += f"; {story.taken} attempts have a 2yz"
    said = []
    if story.accepted:
        of = f" of {story.recipients}" if story.recipients else ""
        said.append(f"accepted it {_times(story.accepted)}, for {story.arrived}{of} recipients")
    if story.refusal:
        said.append(f"refused it with {story.refusal}")
    if story.failed:
        said.append(f"failure reported for {', '.join(sorted(story.failed))}")
    if story.queued:
        said.append(f"in the queue for {story.queued}")
    if story.report_queued:
        said.append("a report is in the queue")
    return Example(message_id, _verdict(story)[1], client, "; ".join(said) or "no line")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


# Files

OURS: Final = "@sendlab.example"
_TIME: Final = (float, int, type(None))
_ATTEMPT: Final = itemgetter(*Attempt._fields)
_OUTCOME: Final = itemgetter(*Outcome._fields[:8])
_START: Final = re.compile(rb'\{"')


def _attempt(row: dict[str, Any]) -> Attempt:
    line = Attempt(*_ATTEMPT(row))
    texts = isinstance(line.message_id, str) and isinstance(line.stage, str) and isinstance(line.text, str)
    whole = isinstance(line.recipients, int) and isinstance(line.retry, int) and isinstance(line.code, int)
    times = isinstance(line.started_at, _TIME) and isinstance(line.ended_at, _TIME)
    return _checked(line, texts and whole and times and isinstance(line.final, bool))


def _outcome(row: dict[str, Any]) -> Outcome:
    line = Outcome(*_OUTCOME(row))
    texts = isinstance(line.provider, str) and isinstance(line.mail_from, str) and isinstance(line.message_id, str)
    whole = isinstance(line.session, int) and isinstance(line.recipients, int) and isinstance(line.code, int)
    _checked(line, texts and whole and isinstance(line.time, (float, int)) and isinstance(line.limit, str))
    report = row.get("report")
    if report:
        failed = tuple(str(one["recipient"]) for one in report["recipients"] if one["action"] == "failed")
        line = line._replace(about=_id(report["message_id"]), failed=failed)
    return line


def _queued(row: dict[str, Any]) -> Queued:
    line = Queued(row["queue_id"], row["sender"], len(row["recipients"]))
    line = _checked(line, isinstance(line.queue_id, str) and isinstance(line.sender, str))
    return line._replace(
        message_id=_id(row.get("message_id", "")), about=_id(row.get("report", {}).get("message_id", ""))
    )


def _checked(line: Line, well: bool) -> Line:
    if not well:
        raise ValueError("not a line of this kind")
    return line


def _id(text: str) -> str:
    """Return ``ID`` of ``<ID@sendlab.example>``; another one as it stands."""
    return text.strip("<>").removesuffix(OURS) if text.strip("<>").endswith(OURS) else text


def _read(path: Path, what: str, parse: Callable[[Any], Line], damaged: list[str]) -> Iterator[Line]:
    """Yield the lines of a file; where those are that can't be read is added to `damaged`."""
    read = unread = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            try:
                line = parse(from_json(text))
            except (AttributeError, KeyError, TypeError, ValueError):
                if not text.strip():
                    continue
                unread += 1
                damaged.append(f"{path}:{number}")
                for line in _rest(text, parse):
                    read += 1
                    yield line
            else:
                read += 1
                yield line
    if unread and not read:
        raise ValueError(f"{path}: not {what}: none of its {unread} lines can be read as one")


def _rest(text: bytes, parse: Callable[[Any], Line]) -> Iterator[Line]:
    """Yield what stands whole behind a piece: the first line of a process that took over from a killed one."""
    for start in _START.finditer(text, 1):
        try:
            line = parse(from_json(text[start.start() :]))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        yield line
        return


def _check(clients: Sequence[Path], servers: Sequence[Path], queue: Path | None) -> None:
    """Look at the files before anything is read."""
    seen: dict[tuple[int, int], Path] = {}
    for what, paths in (("client", clients), ("server", servers), ("queue", [queue] if queue else [])):
        filled = False
        for path in paths:
            found = path.stat()
            filled = filled or found.st_size > 0 or not path.is_file() or beside(path).exists()
            first = seen.setdefault((found.st_dev, found.st_ino), path)
            if first is not path:
                raise ValueError(f"{path}: named twice, which would make everything in it happen twice")
        if not filled and what != "queue":
            raise ValueError(f"{paths[0]}: there is not a single line in what the {what}s wrote")


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what became of every message; return 0 if the books balance, 1 if not, 2 for bad input."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _check(options.clients, options.server, options.queue)
        verdict = _explain(options) if options.explain else _reconcile(options)
        sys.stdout.flush()
        return verdict
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has gone
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ValueError, OSError) as error:
        return argument.bad_input(parser.prog, error)


def _parser() -> argparse.ArgumentParser:
    parser = argument.Parser(
        prog="sendlab reconcile",
        description="Says what became of every message, from the ledgers of load generators and servers, and whether "
        "the books balance: nothing lost, nothing there twice, nothing out of nowhere. Exit 1 unless they do.",
        epilog="example: sendlab reconcile out/client*.jsonl --server out/server*.jsonl",
    )
    add = parser.add_argument
    add("clients", metavar="CLIENT", nargs="+", type=Path, help="the generators' ledgers (JSON Lines)")
    add("--server", metavar="SERVER", nargs="+", action="extend", type=Path, required=True, help="the servers' ledgers")
    add("--queue", metavar="FILE", type=Path, help="what a relay has in its queue: the output of `postqueue -j`")
    add("--explain", metavar="ID", help="print what the ledgers have about one message, in order of time")
    add("--json", action="store_true", help="one JSON document on stdout, nothing else")
    return parser


def _of_the_killed(path: Path, damaged: list[str]) -> Iterator[Attempt]:
    """Yield the lines of a ledger whose generator was killed, and then what it was offering and what it never came to.

    The one is in a file beside the ledger (`loadtests.underway`), the other in the plan beside it.
    """
    underway = {(line.message_id, line.retry): line for line in _read(beside(path), "a list", _attempt, damaged)}
    for line in _read(path, "a client's ledger", _attempt, damaged):
        underway.pop((line.message_id, line.retry), None)  # its reply is known
        yield line
    yield from underway.values()
    plan = path.with_name("plan.jsonl")
    if plan.exists():
        yield from _read(plan, "a plan", _planned, damaged)


def _planned(row: dict[str, Any]) -> Attempt:
    return Attempt(row["message_id"], len(row["rcpt_to"]), 0, None, None, "", 0, "", False)


def _reconcile(options: argparse.Namespace) -> int:
    damaged: list[str] = []
    killed = [path for path in options.clients if beside(path).exists()]
    clients = (
        line
        for path in options.clients
        for line in (
            _of_the_killed(path, damaged) if path in killed else _read(path, "a client's ledger", _attempt, damaged)
        )
    )
    servers = (line for path in options.server for line in _read(path, "a server's ledger", _outcome, damaged))
    queue = _read(options.queue, "the output of `postqueue -j`", _queued, damaged) if options.queue else ()
    books = reconcile(clients, servers, queue)
    for path in killed:
        print(f"{path}: {beside(path).name} is left: its generator was killed, or is still running", file=sys.stderr)
    for place in damaged[:DAMAGED]:
        print(f"{place}: can't be read: a line that was cut, or none of a ledger", file=sys.stderr)
    if len(damaged) > DAMAGED:
        print(f"and {len(damaged) - DAMAGED:,} more such lines", file=sys.stderr)
    if books.unmatched:
        print(f"{options.queue}: {books.unmatched:,} entries of the queue belong to no message", file=sys.stderr)
    if options.json:
        examples = {name: [one._asdict() for one in found] for name, found in books.examples.items()}
        shown = {"balances": books.balances, "messages": books.messages, "expired": books.expired}
        shown |= {"unreadable": len(damaged), "unmatched": books.unmatched, "unfinished": len(killed)}
        print(json.dumps(shown | {"examples": examples}))
    else:
        _print(books)
    return 0 if books.balances else 1


def _print(books: Books) -> None:
    total = sum(books.messages.values())
    width = len(f"{total:,}")
    for verdict, number in books.messages.items():
        note = f"   (given up after a 4yz or without a reply: {books.expired:,})" if verdict == "refused" else ""
        print(f"{verdict.replace('_', ' '):<22}{number:>{width},}{note if books.expired else ''}")
    print(f"{'messages':<22}{total:>{width},}")
    for verdict, found in books.examples.items():
        number = books.messages[verdict]
        if number:
            print(f"\n{verdict}, {f'the first {len(found)} of {number:,}' if number > len(found) else f'{number:,}'}:")
        for one in found:
            print(f"  {one.message_id}: {one.why}\n    client: {one.client}\n    server: {one.server}")
    wrong = ", ".join(f"{books.messages[verdict]:,} {verdict}" for verdict in UNBALANCED if books.messages[verdict])
    print(f"\nThe books {f'do not balance: {wrong}.' if wrong else 'balance.'}")


def _explain(options: argparse.Namespace) -> int:
    """Print the lines about one message; those of the queue, which is read last, come last."""
    found: list[tuple[float, str, str, dict[str, Any]]] = []
    queue = [options.queue] if options.queue else []
    clients = [*options.clients, *(beside(path) for path in options.clients if beside(path).exists())]
    for side, paths in (("client", clients), ("server", options.server), ("queue", queue)):
        for path in paths:
            found += ((time, side, f"{path}:{number}", row) for number, time, row in _about(path, options.explain))
    found.sort(key=itemgetter(0, 1, 2))
    if not found:
        raise ValueError(f"no line is about a message {options.explain!r}")
    if options.json:
        print(json.dumps([{"side": side, "place": place, "line": row} for _, side, place, row in found]))
        return 0
    for time, side, place, row in found:
        print(f"{'' if math.isinf(time) else f'{time:.3f} s':>14}  {side}  {place}\n{'':16}{json.dumps(row)}")
    return 0


def _about(path: Path, message_id: str) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Yield number, time and content of the lines about a message."""
    part = json.dumps(message_id)[1:-1].encode()
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if part not in text:
                continue
            try:
                row = from_json(text)
                ids = {_id(row.get("message_id", "")), _id((row.get("report") or {}).get("message_id", ""))}
            except (AttributeError, ValueError):
                continue
            if message_id in ids:
                time = row.get("started_at", row.get("time"))
                yield number, math.inf if time is None else time, row


if __name__ == "__main__":
    gc.disable()  # millions of small things, none of them in a circle
    sys.exit(main())
