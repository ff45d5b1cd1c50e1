"""A Locust user that is one SMTP connection, and what starts and ends a run of them."""

import sys
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.generator import Generator, Note, connections, plain_text, post
from loadtests.plan import Entry, Plan, count, share

__all__ = ["Refused", "SmtpUser", "UntilDone"]


class Refused(Exception):  # noqa: N818 # what Locust's table of failures shows
    """A refusal: the sentence, the same for all replies that differ only in an id or a time."""


class SmtpUser(User):
    r"""One connection of the plan: it sends what is due on it, on time.

    Subclass it to send a text of your own; the plan decides when, from whom and to whom.

    Parameters
    ----------
    environment : Environment
        Locust's own.

    Examples
    --------
    ::

        class Newsletter(SmtpUser):
            def message(self, entry):
                return my_text(entry)  # lines end in CRLF, dots at their beginning doubled, b".\r\n" at the end
    """

    abstract = True

    def message(self, entry: Entry) -> bytes:
        """Return the text of a message as it goes over the wire, dot and all."""
        return plain_text(entry)

    @task
    def serve(self) -> None:
        """Be a connection until the run is over; more users than connections have nothing to do."""
        generator = _runs[self.environment].generator
        assert generator is not None
        generator.begun.wait()
        if generator.waiting:
            generator.waiting.popleft().serve(self.message)
        generator.over.wait()
        gevent.sleep(60)  # until Locust ends it


class UntilDone(LoadTestShape):
    """As many users as the plan has connections, all at once, until every message's fate is known."""

    def tick(self) -> tuple[int, float] | None:
        """Say how many users there should be; None: it is over."""
        assert self.runner is not None
        run = _runs[self.runner.environment]
        parts = self.runner.worker_count if isinstance(self.runner, MasterRunner) else 1
        if not run.parts:
            run.begin(parts)
        if parts < run.parts:
            # nobody sends its share, and nobody will say what became of it
            print(f"locust: {run.parts - parts} of {run.parts} generators are gone, the run is over", file=sys.stderr)
            self.runner.environment.process_exit_code = 1
            return None
        return (run.users, float(run.users)) if run.undone else None


class _Run:
    """What a process knows of a run: as the one that leads, as one that generates, or both."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts = 0
        self.undone = 0  # processes that don't know every message's fate yet
        self.users = 0
        self.generator: Generator | None = None

    def begin(self, parts: int) -> None:
        """Find out how many users it takes: Locust deals them out evenly, so each process gets as many as any needs."""
        messages = count(self.plan.entries)
        most = max(
            sum(connections(route, messages[route.number]) for route in share(self.plan, part, parts))
            for part in range(parts)
        )
        self.parts = self.undone = parts
        self.users = max(1, most) * parts


_runs: WeakKeyDictionary[Environment, _Run] = WeakKeyDictionary()  # Locust's own object has no place for it


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--plan", metavar="DIR", required=True, help="the plan: a folder that `sendlab load --out` made"
    )
    parser.add_argument("--ledgers", metavar="DIR", default="", help="where client*.jsonl go (the plan's folder)")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="PROVIDER=HOST:PORT",
        help="where a provider of the plan listens now; loopback only (repeatable)",
    )
    parser.add_argument("--control", metavar="HOST:PORT", help="the control port of the fakes that listen there now")
    parser.add_argument("--ca", metavar="FILE", help="the certificates to trust")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _init(environment: Environment, **_: Any) -> None:
    """Wire a process up: it leads (alone, or as the master), it generates (alone, or as a worker), or both."""
    options, runner = environment.parsed_options, environment.runner
    assert options is not None
    assert runner is not None
    try:
        plan = Plan.load(Path(options.plan)).at(options.target, options.control, options.ca)
    except (ValueError, OSError) as error:
        print(f"locust: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    run = _runs[environment] = _Run(plan)
    leads, generates = not isinstance(runner, WorkerRunner), not isinstance(runner, MasterRunner)

    def note(one: Note) -> None:
        environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=one.provider,
            name=one.stage,
            response_time=one.seconds * 1000,
            response_length=one.bytes,
            exception=Refused(one.refusal) if one.refusal else None,
            context={},
        )

    def start(**_: Any) -> None:
        if generates:
            run.generator = Generator(plan, note)
            gevent.spawn(finish, run.generator)

    def all_ready(**_: Any) -> None:
        if not leads:
            return
        if plan.control:
            try:
                post(plan.control, "/reset", {})  # the fakes' second 0 is ours
            except OSError as error:
                print(
                    f"locust: no fakes at {plan.control} ({error}): start some, name them with --control and --target"
                )
                runner.quit()
                return
        go = {"zero": time.time(), "parts": run.parts}
        if isinstance(runner, MasterRunner):
            runner.send_message("go", go)
        else:
            begin(go, 0)

    def begin(go: dict[str, Any], part: int) -> None:
        assert run.generator is not None
        name = "client.jsonl" if go["parts"] == 1 else f"client-{part + 1}.jsonl"
        run.generator.begin(Path(options.ledgers or options.plan) / name, go["zero"], part, go["parts"])

    def finish(generator: Generator) -> None:
        generator.over.wait()
        if isinstance(runner, WorkerRunner):
            runner.send_message("done", {})
        else:
            one_done()

    def one_done(**_: Any) -> None:
        run.undone -= 1

    def stop(**_: Any) -> None:
        if run.generator is not None:
            run.generator.close()
        run.parts = 0

    if isinstance(runner, MasterRunner):
        runner.register_message("done", one_done)
    if isinstance(runner, WorkerRunner):
        runner.register_message("go", lambda msg, **_: begin(msg.data, runner.worker_index))
    for event, listener in (("test_start", start), ("spawning_complete", all_ready), ("test_stop", stop)):
        getattr(environment.events, event).add_listener(listener)
