"""Where load may go: loopback, or a host that was named; never a provider (DESIGN §11)."""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simlib.provider import Provider, names

__all__ = ["Target", "checked"]

PORTS: Final = 65535
HOST: Final = re.compile(r"[a-z0-9_.:%-]+")
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
SECOND_LEVEL: Final = ("ac", "co", "com", "go", "gov", "ne", "net", "or", "org")  # as in yahoo.co.jp

Resolve = Callable[..., list[Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where load goes.

    Parameters
    ----------
    name : str
        The host as it was given, for TLS and for people.
    address : str
        Its IP address, looked up once: what is connected to is what was checked.
    port : int
        The port.
    """

    name: str
    address: str
    port: int


def checked(target: str, allowed: Sequence[str] = (), resolve: Resolve = socket.getaddrinfo) -> Target:
    """Read ``HOST:PORT`` and see whether load may go there; no connection is made.

    Parameters
    ----------
    target : str
        ``HOST:PORT``, an IPv6 address in brackets.
    allowed : sequence of str
        Hosts beyond loopback that were named.
    resolve : callable
        How a name is looked up, as `socket.getaddrinfo` does.

    Returns
    -------
    Target
        With the address that was looked up, so that nothing is looked up again.

    Raises
    ------
    ValueError
        If it is a provider's host, under whatever name or spelling, or isn't loopback and wasn't named.

    Examples
    --------
    >>> checked("127.0.0.1:2525")
    Target(name='127.0.0.1', address='127.0.0.1', port=2525)
    >>> checked("smtp.office365.com:587", allowed=["smtp.office365.com"])
    Traceback (most recent call last):
        ...
    ValueError: target must not be a provider's own server (office365), got 'smtp.office365.com'
    """
    host, port = _split(target)
    _refuse_real(host, target)
    literal = _address(host)
    named = any(_names(one, host) for one in allowed)
    if literal is None and _looks_numeric(host):
        raise ValueError(f"target must spell an IP address in full, such as 127.0.0.1, got {host!r}")
    if literal is not None:
        addresses, aliases = [literal], list[str]()
    elif named or host == "localhost" or host.endswith(".localhost"):
        addresses, aliases = _look_up(host, resolve)
    else:
        raise ValueError(f"target must be a loopback address, or a host named by --allow-host, got {host!r}")
    for alias in aliases:
        _refuse_real(alias, target)
    beyond = [address for address in addresses if not address.is_loopback]
    if beyond and not named:
        raise ValueError(f"target must be a loopback address, or a host named by --allow-host, got {str(beyond[0])!r}")
    if any(address.is_unspecified or address.is_multicast for address in beyond):
        raise ValueError(f"target must be one host's address, got {str(beyond[0])!r}")
    if beyond:
        _refuse_same_address(beyond, host, resolve)
    return Target(host, str(addresses[0]), port)


def _split(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and 0 < int(port) <= PORTS) or not host:
        raise ValueError(f"target must look like HOST:PORT, got {target!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"target must have an IPv6 address in brackets, [::1]:2525, got {target!r}")
    return _canonical(host), int(port)


def _canonical(host: str) -> str:
    """Return the one spelling of a name: lower case, no dot at the end, no full-width letters, in ASCII."""
    plain = unicodedata.normalize("NFKC", host).strip().lower()
    for dot in "。．｡":
        plain = plain.replace(dot, ".")
    try:
        plain = plain.encode("idna").decode() if not plain.isascii() else plain
    except UnicodeError:
        plain = ""
    if not HOST.fullmatch(plain):
        raise ValueError(f"a host must be a name or an IP address, got {host!r}")
    return plain.rstrip(".")


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> Address | None:
    """Return the IP address that a text spells out; IPv4 as IPv6 has it (RFC 4291 §2.5.5.2) is IPv4."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _names(allowed: str, host: str) -> bool:
    """Whether a host that was allowed is this one; an address may be spelled in several ways."""
    one = _canonical(allowed.strip().removeprefix("[").removesuffix("]"))
    return one == host or (_address(one) is not None and _address(one) == _address(host))


def _behind(address: Address) -> set[Address]:
    """Return an address, and the IPv4 addresses that a gateway on the way would take it to."""
    if isinstance(address, ipaddress.IPv4Address):
        return {address}
    found = {address, address.sixtofour, *(address.teredo or ())[1:]}
    if address in NAT64:
        found.add(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return {one for one in found if one is not None}


def _looks_numeric(host: str) -> bool:
    """Whether a system may take a text for an address although it isn't spelled out: 127.1, 0x7f000001, 2130706433."""
    return all(part.isdigit() or part[:2] == "0x" for part in host.split("."))


def _look_up(host: str, resolve: Resolve) -> tuple[list[Address], list[str]]:
    try:
        found = resolve(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except OSError as error:
        raise ValueError(f"target can't be looked up: {host!r}: {error.strerror or error}") from None
    addresses = [address for one in found if (address := _address(str(one[4][0]).partition("%")[0])) is not None]
    if not addresses:
        raise ValueError(f"target can't be looked up: {host!r} has no address")
    return addresses, [_canonical(one[3]) for one in found if one[3]]


def _refuse_real(host: str, target: str) -> None:
    for name in names():
        for real in Provider.load(name).hosts:
            if host == real.lstrip(".") or host.endswith(f".{_registered(real)}") or host == _registered(real):
                raise ValueError(f"target must not be a provider's own server ({name}), got {host!r}")


def _registered(host: str) -> str:
    """Return the domain that somebody registered: what all hosts of a provider end in."""
    labels = host.lstrip(".").split(".")
    size = 3 if len(labels) > 2 and labels[-2] in SECOND_LEVEL and len(labels[-1]) == 2 else 2
    return ".".join(labels[-size:])


def _refuse_same_address(addresses: Sequence[Address], host: str, resolve: Resolve) -> None:
    """Refuse another name for a provider's server; where nothing can be looked up, nothing is known of it."""
    for name in names():
        for real in Provider.load(name).hosts:
            if real.startswith("."):
                continue
            try:
                theirs, _ = _look_up(real, resolve)
            except ValueError:
                continue
            if set(theirs) & set().union(*map(_behind, addresses)):
                raise ValueError(f"target must not be a provider's own server: {host!r} has the address of {real}")
