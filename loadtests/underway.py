"""What a generator's connections are offering: on record before it is offered, should the process be killed.

A ledger has a line for each attempt once its reply is known, so a killed process would take with it which messages were
on their way. Beside the ledger lies ``client.underway``, with a line for each connection: the attempt that it began
last, as a ledger would have it if the run had ended meanwhile. The file is gone when a run has ended in order; one that
is found says that its generator was killed, or is still running.
"""

import mmap
from pathlib import Path
from typing import Final

from pydantic_core import to_json

__all__ = ["UnderWay", "beside"]

ROOM: Final = 192  # bytes of a place, the id left out: keys, three numbers, and the end of a line
LINE: Final = (
    b'{"message_id":%b,"recipients":%d,"retry":%d,"started_at":%.9f,'
    b'"ended_at":null,"stage":"","code":0,"text":"","final":false}'
)
ESCAPED: Final = 6  # bytes that a character of an id takes at most


class UnderWay:
    """A file in memory: what is written there is the system's at once, and costs no call.

    Parameters
    ----------
    ledger : Path
        The ledger beside which it lies.
    connections : int
        How many places it has; none: there is no file.
    longest : int
        The length of the longest message id.
    """

    def __init__(self, ledger: Path, connections: int, longest: int) -> None:
        self.path = beside(ledger)
        self._size = ROOM + ESCAPED * longest
        self._places: mmap.mmap | None = None
        if connections:
            with self.path.open("w+b") as file:
                file.write(b"\n".rjust(self._size) * connections)
                file.flush()
                self._places = mmap.mmap(file.fileno(), 0)

    def note(self, connection: int, message_id: str, recipients: int, retry: int, started_at: float) -> None:
        """Write down what a connection is about to offer; it stays until the next one."""
        assert self._places is not None
        line = LINE % (to_json(message_id), recipients, retry, started_at)
        start = connection * self._size
        self._places[start : start + self._size] = line.ljust(self._size - 1) + b"\n"

    def close(self) -> None:
        """Take the file away: the ledger has it all."""
        if self._places is not None:
            self._places.close()
            self.path.unlink(missing_ok=True)


def beside(ledger: Path) -> Path:
    """Return where the file to a ledger lies.

    Parameters
    ----------
    ledger : Path
        Where a generator writes what became of its attempts.

    Returns
    -------
    Path
        The same name with the ending ``.underway``.
    """
    return ledger.with_suffix(".underway")
