"""A port for a program that can't pick one itself, or can't say which: nobody else is given it meanwhile."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["held_port"]

SHARED: Final = sys.platform == "linux"  # elsewhere a port that somebody holds can't be listened on by somebody else


@contextmanager
def held_port(host: str = "127.0.0.1") -> Iterator[int]:
    """Hold a free port for as long as the block lasts, for a program that will listen on it by its number.

    A port that was free a moment ago may be anybody's by the time it is used: the system gives it to whoever asks for
    any port, or connects. This one is bound, which keeps it out of their reach; and since it isn't listened on, a
    server that sets SO_REUSEADDR, as nearly all do, can. While none does, a connection to it is refused.

    Parameters
    ----------
    host : str
        The IPv4 address.

    Yields
    ------
    int
        The port.

    Examples
    --------
    >>> with held_port() as port, socket.create_server(("127.0.0.1", port)) as server:
    ...     server.getsockname() == ("127.0.0.1", port)
    True
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        port = int(holder.getsockname()[1])
        if not SHARED:
            holder.close()
        yield port
