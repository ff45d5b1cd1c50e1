"""What was simulated, kept on the disk for those who ask for it later: it needn't fit into memory."""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

from simlib.attempts import Attempts

__all__ = ["keeping", "kept"]

CODEC = "lz4"  # a third of the size, for a hundredth of the time that simulating takes


def keeping(parts: Iterable[Attempts], path: Path) -> Iterator[Attempts]:
    """Yield the parts of a run, each written to a file as it passes.

    Parameters
    ----------
    parts : iterable of Attempts
        The parts, in order.
    path : Path
        The file; it is whole once the last part has passed.

    Yields
    ------
    Attempts
        Each part.
    """
    import pyarrow as pa

    with pa.output_stream(str(path), compression=CODEC) as file:
        for part in parts:
            pickle.dump(part, file, pickle.HIGHEST_PROTOCOL)
            yield part


def kept(path: Path) -> Iterator[Attempts]:
    """Yield what `keeping` wrote; of a file of one's own only, since it is a pickle.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    Attempts
        Each part, in order.
    """
    import pyarrow as pa

    with pa.input_stream(str(path), compression=CODEC) as file:
        while True:
            try:
                part: Attempts = pickle.load(file)
            except EOFError:
                return
            yield part
