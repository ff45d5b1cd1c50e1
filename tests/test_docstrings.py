"""What `?` shows of a public name: what it is, each parameter, what comes back, what is refused, an example that runs.

Public is what `simlib.__all__` names, and what the modules among these name. pytest runs the examples.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpydoc.validate import validate

import simlib

NAMED = {
    *("GL08", "SS01", "SS02", "SS03", "SS06"),  # there is a docstring, and it begins with one sentence
    *("PR01", "PR02", "PR03", "PR04", "PR06", "PR07", "PR10"),  # each parameter, in order, with type and meaning
}
"""What has to be right of everything (numpydoc's codes)."""
TOLD = {"RT01", "RT03", "YD01", "EX01"}
"""What functions and classes say besides: what comes back, and an example."""


def public() -> Iterator[tuple[str, Any]]:
    """Yield each public function and class with its name."""
    for name in simlib.__all__:
        found = getattr(simlib, name)
        for one in [getattr(found, inner) for inner in found.__all__] if inspect.ismodule(found) else [found]:
            if inspect.isclass(one) or inspect.isfunction(one):
                yield f"{one.__module__}.{one.__name__}", one


def functions(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the methods and properties that a class of ours defines itself; pydantic adds one to some."""
    for name, value in vars(kind).items():
        found = getattr(value, "__func__", None) or getattr(value, "fget", None) or getattr(value, "func", value)
        if inspect.isfunction(found) and not name.startswith("_") and name != "model_post_init":
            yield name, found


OUTER = dict(public())
MEMBERS = {
    f"{name}.{member}": found
    for name, kind in OUTER.items()
    if inspect.isclass(kind)
    for member, found in functions(kind)
}
ALL = {**OUTER, **MEMBERS}


def wrong(names: Iterable[str], codes: set[str]) -> dict[str, list[str]]:
    found = {name: [f"{code}: {text}" for code, text in validate(name)["errors"] if code in codes] for name in names}
    return {name: errors for name, errors in found.items() if errors}


def test_every_public_name_says_what_it_is_and_what_it_takes() -> None:
    assert len(ALL) > 100
    assert wrong(ALL, NAMED) == {}


def test_every_function_and_class_says_what_comes_back_and_shows_an_example() -> None:
    assert wrong(OUTER, TOLD) == {}


def test_what_refuses_bad_input_says_so() -> None:
    refusing = [name for name, one in ALL.items() if inspect.isfunction(one) and "raise " in inspect.getsource(one)]
    assert len(refusing) > 10
    silent = [name for name in refusing if "\nRaises\n------\nValueError\n" not in (inspect.getdoc(ALL[name]) or "")]
    assert silent == []
