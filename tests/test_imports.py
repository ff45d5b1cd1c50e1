"""Imports go one way (DESIGN §3), wherever in a file they stand, and the light modules stay light.

This is read from the sources, so an import within a function or for the type checker counts as any other.
"""

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import simlib

ROOT = Path(simlib.__file__).parents[1]
HEAVY = ("simpy", "numpy", "pandas", "scipy", "matplotlib")

COMMANDS = ("audit", "compare", "lab", "load", "logs", "providers", "size", "validate")

# What a module may import of ours. A new module has to find its place here.
MAY_IMPORT = {
    "argument": (),
    "facts": (),
    "theory": (),
    "labels": (),
    "plot_style": ("labels",),
    "plot_timeline": ("labels", "plot_style"),
    "plot_load": ("labels", "plot_style"),
    "plot_sweep": ("labels", "plot_style"),
    "plot_day": ("labels", "plot_style"),
    "plot": ("labels", "plot_day", "plot_load", "plot_style", "plot_sweep", "plot_timeline"),
    "lab": (),
    "port": (),
    "queue_manager": (),
    "provider": ("facts",),
    "windows": ("provider",),
    "reputation": ("facts",),
    "receiver": ("provider", "reputation", "windows"),
    "reaction": ("facts", "queue_manager"),
    "sender": ("facts", "reaction"),
    "faults": ("facts", "provider", "receiver", "reputation", "windows"),
    "tool": ("facts", "sender"),
    "pacing": ("provider", "sender"),
    "population": ("facts",),
    "workload": ("facts", "population"),
    "channel": ("facts", "provider", "reaction", "receiver", "sender", "warmup", "workload"),
    "attempts": ("workload",),
    "simulation": ("attempts", "channel", "faults", "provider", "receiver", "sender", "windows", "workload"),
    "lane": ("channel", "provider", "reaction", "sender", "tool", "warmup"),
    "event": ("channel", "facts", "workload"),
    "scenario": (
        *("channel", "event", "facts", "faults", "lane", "provider", "receiver", "reputation", "tool", "workload"),
    ),
    "estimate": (),
    "record": ("attempts", "receiver"),
    "kept": ("attempts",),
    "summary": ("attempts", "channel", "scenario", "windows", "workload"),
    "fairness": ("attempts", "channel", "estimate", "scenario", "summary", "windows"),
    "experiment": (
        *("attempts", "estimate", "fairness", "kept", "plot", "processes", "record", "scenario", "simulation"),
        *("summary", "windows", "workload"),
    ),
    "processes": (),
    "capacity": ("channel", "estimate", "experiment", "scenario", "summary", "workload"),
    "sweep": ("experiment", "facts", "plot", "report", "scenario", "summary"),
    "warmup": ("facts",),
    "option": ("facts", "provider"),
    "prices": ("facts",),
    "words": ("facts",),
    "question": (
        *("attempts", "channel", "experiment", "facts", "option", "pacing", "provider", "scenario", "sender"),
        *("summary", "tool", "windows", "workload"),
    ),
    "sizing": ("estimate", "experiment", "question", "scenario", "summary"),
    "advice": ("estimate", "facts", "option", "prices", "provider", "question", "sender", "sizing", "warmup"),
    "sentences": ("advice", "sender", "sizing", "words"),
    "card": ("advice", "provider", "question", "sentences", "sizing", "words"),
    "look": ("estimate", "option", "question", "sender"),
    "app": ("advice", "card", "look", "option", "plot", "processes", "question", "tool", "words"),
    "report": ("estimate", "experiment", "plot", "receiver", "record", "reputation", "sizing", "summary"),
    "logs": ("provider",),
    "log_postfix": ("logs", "provider"),
    "log_exim": ("logs", "provider"),
    "log_events": ("logs", "provider"),
    "importing": ("log_events", "log_exim", "log_postfix", "logs", "provider", "replies"),
    "replies": ("provider",),
    "hypothesis": ("windows",),
    "evidence": ("hypothesis", "provider", "replies"),
    "search": ("evidence", "hypothesis"),
    "learn": ("evidence", "facts", "hypothesis", "provider", "replies", "search"),
    "safety": ("provider",),
    "target": ("safety",),
    "plan": ("channel", "provider", "scenario", "target", "workload"),
    "load": (
        *(
            "attempts",
            "channel",
            "plan",
            "plot",
            "port",
            "record",
            "safety",
            "scenario",
            "sender",
            "summary",
            "target",
            "workload",
        ),
    ),
    "replay": ("faults", "load", "plan", "provider", "receiver", "reputation", "scenario", "simulation", "workload"),
    "validate": ("attempts", "experiment", "load", "replay", "scenario", "summary"),
    "measured": ("load", "validate"),
    "audit": ("pacing", "provider", "windows"),
    "trial": ("audit", "provider"),
    "audited": ("audit",),
    "live": ("plot",),
    "progress": (),
    "cli_compare": ("argument", "capacity", "experiment", "progress", "report", "scenario", "sweep"),
    "cli_providers": ("argument", "provider"),
    "cli_load": ("argument", "load", "measured", "plot", "progress", "safety", "scenario"),
    "cli_validate": ("argument", "measured", "plot", "progress", "scenario", "validate"),
    "cli_size": ("advice", "argument", "card", "prices", "progress", "question", "scenario", "sentences", "words"),
    "cli_audit": ("argument", "audit", "audited", "provider", "trial"),
    "cli_logs": ("argument", "importing", "learn"),
    "cli_lab": ("argument", "lab"),
    "cli": ("argument", *(f"cli_{name}" for name in COMMANDS)),
    "__main__": ("cli",),
    "__init__": (),
}
NEVER = {
    "simlib": {"aiosmtpd", "locust", "fake_servers", "loadtests"},
    "fake_servers": {"simpy", "pandas", "locust", "loadtests"},
    "loadtests": {"simpy", "pandas", "aiosmtpd", "fake_servers"},
}
NEIGHBOURS = {
    "fake_servers": {"argument", "facts", "faults", "provider", "receiver", "reputation", "windows"},
    "loadtests": {"argument", "port", "reaction", "sender"},
}
# `serve --scenario` takes providers, readings and accounts from a scenario: only who brings one loads the simulator.
EXCEPTIONS = {("fake_servers/__main__.py", "scenario")}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Yield the dotted name of everything that a source imports; `from a import b` is ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node.args[0]).strip("'\"")


def of_ours(source: str) -> set[str]:
    """Return which modules of simlib a source imports; a name that simlib itself gives is that of its home."""
    names = [name.split(".") for name in imported(source) if name.split(".")[0] == "simlib"]
    steps = {name[1] if len(name) > 1 else "" for name in names}
    homes = vars(simlib)["_HOMES"]
    return {homes.get(step, step) for step in steps} - {"", "__version__"}


def test_imports_are_seen_wherever_they_stand() -> None:
    source = """
import simlib.channel
from simlib import Scenario, plot
from simlib.facts import check
if TYPE_CHECKING:
    import pandas as pd
def later():
    from simlib.cli import main
    importlib.import_module("locust")
"""
    assert of_ours(source) == {"channel", "scenario", "plot", "facts", "cli"}
    assert {name.split(".")[0] for name in imported(source)} == {"simlib", "pandas", "locust"}


@pytest.mark.parametrize("path", sources("simlib"), ids=lambda path: path.stem)
def test_simlib_imports_one_way(path: Path) -> None:
    assert path.stem in MAY_IMPORT, "a new module: which ones may it import?"
    if path.stem != "__init__":  # it looks its names up when they are first used
        assert of_ours(path.read_text(encoding="utf-8")) - set(MAY_IMPORT[path.stem]) == set()


def test_the_way_has_no_circle() -> None:
    done: list[str] = []
    while len(done) < len(MAY_IMPORT):
        ready = [name for name, others in MAY_IMPORT.items() if name not in done and set(others) <= set(done)]
        assert ready, f"in a circle: {set(MAY_IMPORT) - set(done)}"
        done += ready


@pytest.mark.parametrize("package", sorted(NEVER))
def test_the_neighbours_stay_apart(package: str) -> None:
    wrong = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in sources(package)
        for name in imported(path.read_text(encoding="utf-8"))
        if name.split(".")[0] in NEVER[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", sorted(NEIGHBOURS))
def test_the_neighbours_use_only_the_floor_they_share(package: str) -> None:
    used = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in sources(package)
        for name in of_ours(path.read_text(encoding="utf-8"))
    }
    assert {(path, name) for path, name in used if name not in NEIGHBOURS[package]} - EXCEPTIONS == set()


def loaded(statements: str) -> set[str]:
    """Return the top-level modules in a fresh process after some statements."""
    shown = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{shown}"], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(ran.stderr.split())


def first_loaded(modules: Sequence[str], unwanted: set[str]) -> dict[str, set[str]]:
    """Import modules in turn in one fresh process, and return which of them was the first to load what is unwanted."""
    source = f"""
import importlib, json, sys
found, unwanted = {{}}, {sorted(unwanted)}
for module in {list(modules)}:
    importlib.import_module(module)
    tops = {{name.partition(".")[0] for name in sys.modules}}
    found[module] = [name for name in unwanted if name in tops]
    unwanted = [name for name in unwanted if name not in tops]
print(json.dumps(found), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True, cwd=ROOT)
    return {module: set(names) for module, names in json.loads(ran.stderr).items() if names}


def test_who_loads_what_is_unwanted_is_named() -> None:
    assert first_loaded(["simlib", "simlib.record", "simlib.estimate"], {"numpy", "locust"}) == {
        "simlib.record": {"numpy"}
    }


LIGHT = ["simlib", "simlib.facts", "simlib.provider", "simlib.receiver", "simlib.sender", "simlib.tool", "simlib.cli"]


def test_the_light_modules_load_nothing_heavy() -> None:
    modules = [*LIGHT, *("fake_servers." + path.stem for path in sources("fake_servers") if path.stem != "__init__")]
    assert "fake_servers.server" in modules
    assert first_loaded(modules, {*HEAVY, "locust", "IPython"}) == {}


CLI = ["simlib", "simlib.argument", "simlib.cli", "simlib.progress", *(f"simlib.cli_{name}" for name in COMMANDS)]


def test_help_loads_nothing_that_takes_time() -> None:
    """Of libraries nothing is imported for `sendlab --help`, and of ours only the CLI."""
    found = loaded(
        "import sys\nfrom simlib.cli import main\n"
        "for name in ('', 'compare', 'providers', 'load', 'validate', 'size', 'lab'):\n"
        "  for words in ([name, '--help'] if name else ['--help'], []):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "ours = {name for name in sys.modules if name.startswith('simlib')}\n"
        f"assert ours == set({CLI}), ours"
    )
    assert found & {*HEAVY, "pydantic", "tqdm", "joblib", "pyarrow", "locust", "aiosmtpd", "jupyterlab"} == set()


def test_who_starts_locust_does_not_import_it() -> None:
    """It patches sockets and threads for gevent, and a notebook's kernel would hang (the fakes are a process, too)."""
    modules = [f"simlib.{name}" for name in ("load", "plan", "replay", "validate", "measured", "safety")]
    assert first_loaded(modules, {"locust", "gevent", "loadtests", "fake_servers", "aiosmtpd"}) == {}


def test_who_drives_real_mail_loads_no_simulator() -> None:
    assert first_loaded(["simlib.plan", "simlib.load"], {"simpy"}) == {}


def test_what_others_may_use_of_loadtests_patches_nothing() -> None:
    modules = [f"loadtests.{name}" for name in ("plan", "reconcile", "relay")]
    assert first_loaded(modules, {"locust", "gevent", *HEAVY}) == {}


@pytest.mark.parametrize("name", simlib.__all__)
def test_every_public_name_is_there(name: str) -> None:
    home = importlib.import_module(f"simlib.{vars(simlib)['_HOMES'][name]}")
    assert getattr(simlib, name) is (home if home.__name__ == f"simlib.{name}" else getattr(home, name))
    assert name in dir(simlib)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'simlib' has no attribute 'nothing'"):
        _ = simlib.nothing
