"""``python -m fake_servers PROVIDER…``: run fakes until SIGTERM or SIGINT (`sendlab serve` becomes this process)."""

import argparse
import asyncio
import datetime as dt
import gc
import ipaddress
import json
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fake_servers import accounts, tls
from fake_servers.clock import Clock, VirtualClock, WallClock
from fake_servers.control import Control, listen
from fake_servers.ledger import Ledger
from fake_servers.server import Connection, Fake, Listener, Shared
from simlib import argument
from simlib.faults import Faults
from simlib.provider import Provider
from simlib.receiver import Account
from simlib.reputation import Reputation

if TYPE_CHECKING:
    from fake_servers.zone import Exchange, Listening
    from simlib.scenario import Scenario

BACKLOG: Final = 1024
TRIES: Final = 16  # ports that are tried if any will do
KEYS: Final = {"sparkpost": ("smtp_injection",)}  # users that are no mailboxes (DESIGN §7)

Accounts = Callable[[], Mapping[str, Account]]
Opened = TypeVar("Opened")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return 0, or 2 for bad input (one line on stderr says what)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        providers, start, makers, opinions, faults = _chosen(options)
        clock = _clock(options)
        shared = Shared(clock, Ledger(options.ledger), start)
        chosen = zip(providers, makers, opinions, strict=True)
        fakes = [Fake(provider, maker, shared, reputation, faults) for provider, maker, reputation in chosen]
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(options, fakes))
    except (ValueError, OSError) as error:
        return argument.bad_input(parser.prog, error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argument.Parser(
        prog="sendlab serve",
        description="Runs fake SMTP servers that answer as the provider does, and prints one JSON line per listener "
        "when they are ready. Open the control port in a browser to watch.",
        epilog="example: sendlab serve office365 --port 2525 --clock virtual",
    )
    add = parser.add_argument
    add("providers", metavar="PROVIDER", nargs="*", help="whom to be (see `sendlab providers`)")
    add("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    add(
        "--port",
        type=argument.port,
        default=2525,
        metavar="N",
        help="the first provider's port, N + 1 the next; 0 picks (2525)",
    )
    add("--tls-port", type=argument.port, metavar="N", help="also listen here with TLS from the start")
    add(
        "--control-port",
        type=argument.port,
        default=8025,
        metavar="N",
        help="HTTP on 127.0.0.1: page, metrics, tokens (8025)",
    )
    add(
        "--dns-port",
        type=argument.port,
        metavar="N",
        help="DNS on --host for a relay: PROVIDER.test and all below it have the provider's real hosts as MX, with "
        "addresses 127.0.0.x, where it then listens on --port as well; every other reserved domain is a sender's; "
        "its mail (bounces) goes to generic-mx if that is served, else to the first mailbox provider; 0 picks",
    )
    add("--clock", choices=("wall", "virtual"), default="wall", help="virtual: it is moved by POST /clock (wall)")
    add("--start", type=_start, metavar="HH:MM", help="what the provider's clock shows at second 0")
    add("--time-scale", type=argument.positive, default=1.0, metavar="X", help="provider's seconds in a second (1)")
    add("--ca", type=Path, metavar="FILE", help="write the certificate of the authority here, for clients to trust")
    add("--accounts", type=Path, metavar="FILE", help="who may log in (everybody at a reserved domain)")
    add("--ledger", type=Path, metavar="FILE", help="append outcomes here, as JSON Lines")
    add(
        "--reading",
        type=argument.reading,
        action="append",
        default=[],
        metavar="LIMIT=NAME",
        help="another reading of a limit",
    )
    add(
        "--limit",
        type=argument.amount,
        action="append",
        default=[],
        metavar="LIMIT=AMOUNT",
        help="an account's own amount: office365/messages-per-minute=100/min, or off (repeatable)",
    )
    add("--as-of", type=argument.date, metavar="DATE", help="the date whose facts apply (the newest fact's)")
    add("--faults", type=Path, metavar="FILE", help="what goes wrong, TOML or JSON (PUT /faults changes it)")
    add(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of what is random: which commands faults strike; which mail is complained about, where a scenario has "
        "reputation (1)",
    )
    add(
        "--scenario",
        type=Path,
        metavar="FILE",
        help="providers, limits, readings, start, accounts, faults of a scenario",
    )
    return parser


# Options


def _start(text: str) -> dt.time | dt.datetime:
    try:
        return dt.datetime.fromisoformat(text) if "T" in text else dt.time.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time like '08:00', got {text!r}") from None


def _clock(options: argparse.Namespace) -> Clock:
    if options.clock == "wall":
        return WallClock(options.time_scale)
    if options.time_scale != 1.0:
        raise ValueError(f"--time-scale hurries the wall's clock; a virtual one is moved, got {options.time_scale:g}")
    return VirtualClock()


# Whom to be


def _chosen(
    options: argparse.Namespace,
) -> tuple[list[Provider], dt.datetime, list[Accounts], list[Reputation | None], Faults]:
    """Return the providers as they are on the date, their clock at second 0, their accounts, their opinions of IPs.

    And what goes wrong there.
    """
    if options.dns_port is not None and not _is_loopback(options.host):
        raise ValueError(
            f"--host must be a loopback address with --dns-port, as all that it answers, got {options.host!r}"
        )
    scenario = _scenario(options.scenario) if options.scenario else None
    names = options.providers or ([] if scenario is None else _names(scenario))
    if not names:
        raise ValueError("PROVIDER is missing: name one (see `sendlab providers`), or a --scenario")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"PROVIDER given twice: {twice!r}")
    makers: list[Accounts]
    if scenario is not None:
        providers, start = _of_scenario(scenario, names, options)
        makers = [partial(_accounts_of, scenario, name, options.as_of) for name in names]
    else:
        providers, start = _by_name(names, options)
        makers = [partial(accounts.Anybody, *KEYS.get(name, ())) for name in names]
    if options.accounts is not None:
        makers = [partial(_copies, accounts.from_file(options.accounts))] * len(names)
    for provider in providers:
        if provider.transport != "smtp":
            raise ValueError(
                f"{provider.name} speaks {provider.transport.upper()}, not SMTP: name the others to serve them"
            )
    opinions = [None if scenario is None else scenario.opinion(provider, options.seed) for provider in providers]
    if options.faults is not None:
        faults = Faults.load(options.faults, options.seed).meant_for(names)
    else:
        faults = Faults(seed=options.seed) if scenario is None else scenario.faults_of(options.seed)
    return _amounts(_read_as(providers, options.reading), options.limit), start, makers, opinions, faults


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _copies(found: Mapping[str, Account]) -> Mapping[str, Account]:
    return {user: replace(account) for user, account in found.items()}


def _by_name(names: Sequence[str], options: argparse.Namespace) -> tuple[list[Provider], dt.datetime]:
    raw = [Provider.load(name) for name in names]
    start = options.start
    date = options.as_of or (start.date() if isinstance(start, dt.datetime) else max(one.newest for one in raw))
    return [provider.on(date) for provider in raw], _moment(start or dt.time(), date)


def _moment(start: dt.time | dt.datetime, date: dt.date) -> dt.datetime:
    moment = start if isinstance(start, dt.datetime) else dt.datetime.combine(date, start)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _scenario(path: Path) -> "Scenario":
    from simlib.scenario import Scenario  # numpy, 0.3 s: only for those who bring a scenario

    return Scenario.load(path)


def _names(scenario: "Scenario") -> list[str]:
    channels = [channel for alternative in scenario.alternatives.values() for channel in alternative.channels]
    return list(dict.fromkeys(name for channel in channels for name in channel.to))


def _of_scenario(
    scenario: "Scenario", names: Sequence[str], options: argparse.Namespace
) -> tuple[list[Provider], dt.datetime]:
    known = _names(scenario)
    unknown = next((name for name in names if name not in known), None)
    if unknown:
        raise ValueError(f"{options.scenario}: no channel goes to {unknown!r} (there are: {', '.join(known)})")
    start = scenario.zero
    if options.start is not None:
        start = _moment(options.start, scenario.date)
        if start.tzinfo is dt.UTC:
            start = start.replace(tzinfo=scenario.zero.tzinfo)
    return [scenario.provider(name, options.as_of) for name in names], start


def _accounts_of(scenario: "Scenario", name: str, as_of: dt.date | None) -> Mapping[str, Account]:
    found: dict[str, Account] = {}
    for alternative in scenario.alternatives:
        receivers = scenario.receivers(scenario.lanes(alternative, as_of))
        if name in receivers:
            found |= receivers[name].accounts
    return found


def _amounts(providers: Sequence[Provider], limits: Sequence[tuple[str, str | float]]) -> list[Provider]:
    _are_served(providers, "--limit", limits)
    return [
        provider.set({limit: amount for limit, amount in limits if limit.startswith(f"{provider.name}/")})
        for provider in providers
    ]


def _are_served(providers: Sequence[Provider], option: str, limits: Sequence[tuple[str, object]]) -> None:
    names = [provider.name for provider in providers]
    for limit, _ in limits:
        if limit.partition("/")[0] not in names:
            raise ValueError(f"{option} must be of a provider that is served ({', '.join(names)}), got {limit!r}")


def _read_as(providers: Sequence[Provider], readings: Sequence[tuple[str, str]]) -> list[Provider]:
    _are_served(providers, "--reading", readings)
    return [
        provider.read_as({limit: name for limit, name in readings if limit.startswith(f"{provider.name}/")})
        for provider in providers
    ]


# Serving


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(options: argparse.Namespace, fakes: Sequence[Fake]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    shared = fakes[0].shared
    shared.context = loop.create_future()
    hosts = ["localhost", "127.0.0.1", "::1", options.host, *(host for fake in fakes for host in fake.provider.hosts)]
    if options.dns_port is not None:
        hosts += [f"mx.{fake.provider.name}.test" for fake in fakes if not fake.provider.hosts]
    if options.ca is not None or options.tls_port is not None:
        shared.context.set_result(tls.context(hosts, options.ca))
    control = Control(fakes)
    servers: list[asyncio.Server | Listening] = []
    dns: int | None = None
    try:
        for number, fake in enumerate(fakes):
            servers.append(await _listen(fake, options.host, options.port and options.port + number))
            if options.tls_port is not None:
                port = options.tls_port and options.tls_port + number
                servers.append(await _listen(fake, options.host, port, shared.context.result()))
        if options.dns_port is not None:
            from fake_servers import zone  # only for those who ask for it

            known = zone.Zone([fake.provider for fake in fakes], options.host)
            servers += await _listen_as(known.exchanges, fakes, options.port)
            where = options.host, options.dns_port
            answering = await _bind("--dns-port", zone.listen(known, *where), *where)
            servers.append(answering)
            dns = answering.port
        where = "127.0.0.1", options.control_port
        http = await _bind("--control-port", listen(control, *where), *where)
        servers.append(http)
        shared.clock.reset()
        gc.freeze()  # what is here now stays; the collector need not look at it again
        _announce(fakes, _port_of(http), dns)
        if not shared.context.done():
            # on the side, since it takes a while: whoever says STARTTLS earlier waits for it
            shared.context.set_result(await asyncio.to_thread(tls.context, hosts))
        await asyncio.to_thread(
            import_module, "prometheus_client.exposition"
        )  # else the first scrape holds everybody up
        await stop.wait()
    finally:
        for server in servers:
            server.close()
        control.close()
        for fake in fakes:
            fake.close()
        await asyncio.sleep(0)  # lets the last words leave
        shared.ledger.close()


async def _listen(fake: Fake, host: str, port: int, context: ssl.SSLContext | None = None) -> asyncio.Server:
    server = await _open(fake, host, port, context)
    fake.listeners.append(Listener(host, _port_of(server), context is not None))
    return server


async def _listen_as(exchanges: "Sequence[Exchange]", fakes: Sequence[Fake], port: int) -> list[asyncio.Server]:
    """Listen under each name's own address, on one port for all: a relay has one for all destinations."""
    by_name = {fake.provider.name: fake for fake in fakes}
    number = port
    for left in reversed(range(TRIES)):
        servers: list[asyncio.Server] = []
        try:
            for one in exchanges:
                servers.append(await _open(by_name[one.provider], one.address, number))
                number = _port_of(servers[0])
        except ValueError:
            for server in servers:
                server.close()
            if port or not left:
                raise
            number = port
        else:
            break
    for one in exchanges:
        by_name[one.provider].listeners.append(Listener(one.address, number, False, one.name))
    return servers


async def _open(fake: Fake, host: str, port: int, context: ssl.SSLContext | None = None) -> asyncio.Server:
    """Let asyncio itself bind: only then it sets TCP_NODELAY on what it accepts."""
    factory = partial(Connection, fake, context is not None)
    opening = asyncio.get_running_loop().create_server(factory, host, port, ssl=context, backlog=BACKLOG)
    return await _bind("--port" if context is None else "--tls-port", opening, host, port)


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def _bind(option: str, opening: Coroutine[Any, Any, Opened], host: str, port: int) -> Opened:
    try:
        return await opening
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number and number > 0 else str(error)
        raise ValueError(f"{option}: can't listen on {host} port {port}: {why}") from None


def _announce(fakes: Sequence[Fake], control: int, dns: int | None) -> None:
    """Print one JSON line per listener, those that have a name in DNS after the others."""
    every = [(fake, listener) for fake in fakes for listener in fake.listeners]
    for fake, listener in sorted(every, key=lambda one: one[1].name != ""):
        line = {"provider": fake.provider.name, "host": listener.host, "port": listener.port, "tls": listener.tls}
        print(json.dumps(line | {"control": control} | _of_dns(listener, dns)))
    sys.stdout.flush()


def _of_dns(listener: Listener, dns: int | None) -> dict[str, Any]:
    if dns is None:
        return {}
    return {"dns": dns, "name": listener.name} if listener.name else {"dns": dns}


if __name__ == "__main__":
    sys.exit(main())
