"""How far a command is, shown on stderr to whoever watches."""

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["progress"]


@contextlib.contextmanager
def progress(unit: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show how far something is, on stderr and only in a terminal.

    Parameters
    ----------
    unit : str
        What is counted.
    quiet : bool
        Whether nothing is shown anyway.

    Yields
    ------
    callable
        Is told how much is done, of how much, and optionally what is being done.

    Examples
    --------
    >>> with progress("replications", quiet=True) as tell:
    ...     tell(1, 20)
    """
    from tqdm import tqdm

    bar = tqdm(unit=f" {unit}", file=sys.stderr, disable=quiet or not sys.stderr.isatty(), leave=False)

    def tell(done: float, of: int, what: str = "") -> None:
        bar.total = of
        bar.set_description(what, refresh=False)
        bar.n = round(done, 2)
        bar.update(0)

    with bar:
        yield tell
