"""What `?` shows of a public name: what it is, each parameter, what comes back, what is refused, an example that runs.

Of what `simlib.__all__` names, and what the modules among these name, all of that, of methods too; of the classes that
somebody gets from these or from a notebook, all but examples, of methods too; of what any other module names, all but
examples and methods. pytest runs the examples.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from numpydoc.validate import validate
from pydantic import BaseModel

import fake_servers
import loadtests
import simlib
from simlib.facts import Fact

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


@cache
def errors(name: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = validate(name)["errors"]
    return found


def wrong(names: Iterable[str], codes: set[str]) -> dict[str, list[str]]:
    found = {name: [f"{code}: {text}" for code, text in errors(name) if code in codes] for name in names}
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


NOTEBOOKS = Path(simlib.__file__).parents[1] / "notebooks"


def of_notebooks() -> Iterator[Any]:
    """Yield what the notebooks import from our modules."""
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for node in ast.walk(ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("simlib."):
                    module = importlib.import_module(node.module or "")
                    yield from (getattr(module, alias.name) for alias in node.names)


def given(one: Any) -> Iterator[type]:
    """Yield the classes of ours that a function returns, or that are in a class's fields or come from its methods."""
    hints = typing.get_type_hints(one, localns={"pd": pd}) if inspect.isclass(one) else {}
    found = [hint for name, hint in hints.items() if not name.startswith("_")]
    methods = [method for _, method in functions(one)] if inspect.isclass(one) else [one]
    found += [typing.get_type_hints(method, localns={"pd": pd}).get("return") for method in methods]
    while found:
        hint = found.pop()
        found += hint if isinstance(hint, list) else typing.get_args(hint)
        if inspect.isclass(hint) and hint.__module__.startswith("simlib."):
            yield hint


def reached() -> dict[str, type]:
    """Return the classes that somebody gets into his hands, by name."""
    found: dict[Any, None] = {}
    next_ = [*OUTER.values(), *of_notebooks()]
    while next_:
        one = next_.pop()
        if one not in found:
            found[one] = None
            next_ += given(one)
    return {f"{one.__module__}.{one.__name__}": one for one in found if inspect.isclass(one)}


def test_what_somebody_gets_from_a_public_name_says_of_each_method_what_it_takes_and_what_comes_back() -> None:
    methods = {f"{name}.{member}": one for name, kind in reached().items() for member, one in functions(kind)}
    assert {"simlib.advice.Answer.warmups", "simlib.look.Look.day", "simlib.load.Load.table"} <= set(methods)
    assert wrong(methods, (NAMED | TOLD) - {"EX01"}) == {}
    assert silent(methods) == []


ELSEWHERE = ("simlib.faults", "simlib.reputation")
"""The tables of these are the reader's own, and the facts' file: each key is explained there."""


def test_what_somebody_gets_from_a_public_name_says_what_its_fields_are() -> None:
    """Of a fact, what every fact has is said of `Fact`."""
    kinds = {name: kind for name, kind in reached().items() if not name.startswith(ELSEWHERE) and name not in OUTER}
    missing = {
        name: unsaid(name) - {"kind", *(Fact.model_fields if issubclass(kind, Fact) else ())}
        for name, kind in kinds.items()
    }
    assert len(missing) > 50
    assert {name: found for name, found in missing.items() if found} == {}


def test_a_signature_shows_types_and_not_what_checks_them() -> None:
    shown = {name: str(inspect.signature(kind)) for name, kind in reached().items() if issubclass(kind, BaseModel)}
    assert "tenants: tuple[simlib.workload.Tenant, ...]" in shown["simlib.scenario.Scenario"]
    assert [name for name, signature in shown.items() if "Annotated" in signature or " at 0x" in signature] == []


LEAVE_ALONE = ("loadtests.user", "loadtests.locustfile", "__main__")
"""Importing Locust patches the sockets of this process, importing a `__main__` runs it."""


def everything() -> Iterator[tuple[str, Any]]:
    """Yield each function and class that a module of ours names as its own."""
    for package in (simlib, fake_servers, loadtests):
        for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = None if name.endswith(LEAVE_ALONE) else importlib.import_module(name)
            for inner in getattr(module, "__all__", ()):
                one = getattr(module, inner)
                if inspect.isclass(one) or inspect.isfunction(one):
                    yield f"{name}.{inner}", one


EVERYTHING = dict(everything())


def unsaid(name: str) -> set[str]:
    """Return the parameters that numpydoc doesn't find."""
    texts = [text for code, text in errors(name) if code == "PR01"]
    return {found for text in texts for found in re.findall(r"'(\w+)'", text) if not found.startswith("_")}


def undocumented(name: str, one: Any) -> set[str]:
    """Return the parameters that nothing is said about; the fields of a file's table are DESIGN's (§5 and §6)."""
    if inspect.isclass(one) and (issubclass(one, BaseModel) or getattr(one, "_is_protocol", False)):
        return set()
    missing = unsaid(name)
    return {found for found in missing if not re.search(rf"^(\w+, )*{found}\b.* : ", inspect.getdoc(one) or "", re.M)}


def raises(one: Callable[..., object]) -> bool:
    """Whether a function raises a ValueError itself, and not only to catch it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
    caught = {id(inner) for outer in ast.walk(tree) if isinstance(outer, ast.Try) for part in outer.body
              for inner in ast.walk(part) if outer.handlers}  # fmt: skip
    return any(
        isinstance(node, ast.Raise) and id(node) not in caught and "ValueError" in ast.unparse(node)
        for node in ast.walk(tree)
    )


def silent(functions: Mapping[str, Callable[..., object]]) -> list[str]:
    """Return which raise a ValueError and don't say so."""
    said = "\nRaises\n------\nValueError\n"
    return [name for name, one in functions.items() if raises(one) and said not in (inspect.getdoc(one) or "")]


def test_every_module_says_what_its_functions_and_classes_are_and_take() -> None:
    assert len(EVERYTHING) > 250
    assert wrong(EVERYTHING, NAMED - {"PR01", "PR04", "PR06"}) == {}
    missing = {name: undocumented(name, one) for name, one in EVERYTHING.items()}
    assert {name: found for name, found in missing.items() if found} == {}


def test_every_module_says_what_comes_back_and_what_is_refused() -> None:
    functions = {name: one for name, one in EVERYTHING.items() if inspect.isfunction(one)}
    assert wrong(functions, TOLD - {"EX01"}) == {}
    assert silent(functions) == []
