"""`sendlab lab`: the notebooks are in the wheel, unpack beside what is there, and open where nobody else gets in."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from simlib.lab import START, default_folder, shipped, unpack

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"


def contents(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, hidden files apart."""
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): data
        for name, data in found.items()
        if not any(part.startswith(".") for part in name.parts) and name.suffix != ".py"
    }


# Unpacking


def test_a_checkout_opens_its_own_notebooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shipped() == NOTEBOOKS
    monkeypatch.chdir(ROOT)
    assert default_folder() == Path("notebooks")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()  # somebody else's
    assert default_folder() == Path("sendlab-notebooks")


def test_everything_is_unpacked_and_once_only(tmp_path: Path) -> None:
    first = unpack(tmp_path / "new" / "folder")
    assert contents(tmp_path / "new" / "folder") == contents(NOTEBOOKS)
    assert (sorted(first.written), first.kept) == (sorted(contents(NOTEBOOKS)), ())
    second = unpack(tmp_path / "new" / "folder")
    assert (second.written, second.kept) == ((), ())


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    for name in ("scenarios/team_day.toml", "01_provider_limits.ipynb"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    found = unpack(tmp_path)
    assert set(found.kept) == {"scenarios/team_day.toml", "01_provider_limits.ipynb"}
    assert set(found.written) == set(contents(NOTEBOOKS)) - set(found.kept)
    assert {(tmp_path / name).read_text(encoding="utf-8") for name in found.kept} == {"mine"}


def test_the_checkout_is_not_unpacked_onto_itself() -> None:
    assert unpack(NOTEBOOKS).written == ()


def built(folder: Path, kind: str) -> Path:
    """Build a wheel and unpack it: what `pip install` puts into site-packages."""
    build = f"from hatchling.build import build_{kind} as build; print(build({str(folder)!r}))"
    ran = subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(folder / ran.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"), "wheel")


def test_the_wheel_has_the_notebooks(installed: Path, tmp_path: Path) -> None:
    ask = "import simlib; from simlib.lab import *; print(simlib.__file__, default_folder()); unpack(default_folder())"
    ran = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == [str(installed / "simlib" / "__init__.py"), "sendlab-notebooks"]
    assert contents(tmp_path / "sendlab-notebooks") == contents(NOTEBOOKS)


def test_an_editable_install_has_no_copy_of_them(tmp_path: Path) -> None:
    assert list(built(tmp_path, "editable").rglob("*.ipynb")) == []


# The start page


def test_the_start_page_has_each_notebook_with_its_question() -> None:
    rows = [
        line.split("|")[1:4] for line in (NOTEBOOKS / START).read_text(encoding="utf-8").splitlines() if "](0" in line
    ]
    named = {cells[1].strip(): cells[0].strip() for cells in rows}
    titles = {}
    for path in NOTEBOOKS.glob("*.ipynb"):
        first = "".join(json.loads(path.read_bytes())["cells"][0]["source"])
        titles[f"[{path.stem}]({path.name})"] = first.partition("\n")[0].removeprefix("# ")
    assert named == titles
    assert all(float(cells[2]) > 0 for cells in rows)


# The server


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    """JupyterLab as the command starts it, for somebody whose home is empty."""
    home = tmp_path_factory.mktemp("home")
    kernel = {"display_name": "the user's own", "language": "python", "argv": ["/another/python", "{connection_file}"]}
    own = home / ".local" / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(kernel), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
    with subprocess.Popen(
        [sys.executable, "-m", "simlib", "lab", str(home / "mine"), "--json", "--no-browser", "--", "--port=0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "HOME": str(home)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield json.loads(process.stdout.readline()), home
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == "", "one JSON document, nothing else"
        said = process.stderr.read()
        assert "Warning" not in said
        assert "Traceback" not in said


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.load(reply)


def address(url: str, path: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{path}?{parts.query}"


def test_the_address_is_on_loopback_with_a_token_and_opens_the_start_page(lab: tuple[dict[str, Any], Path]) -> None:
    said, home = lab
    assert said.keys() == {"url", "folder"}
    assert said["folder"] == str(home / "mine")
    parts = urlsplit(said["url"])
    assert (parts.scheme, parts.hostname, parts.path) == ("http", "127.0.0.1", f"/lab/tree/{START}")
    assert len(parse_qs(parts.query)["token"][0]) == 48


def test_nobody_gets_in_without_the_token(lab: tuple[dict[str, Any], Path]) -> None:
    url = address(lab[0]["url"], "/api/contents").partition("?")[0]
    for query in ("", "?token=", "?token=0"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(url + query)


def test_the_notebooks_are_served_by_the_kernel_of_this_environment(lab: tuple[dict[str, Any], Path]) -> None:
    listed = get(address(lab[0]["url"], "/api/contents"))
    assert {entry["name"] for entry in listed["content"]} == {name.split("/")[0] for name in contents(NOTEBOOKS)}
    specs = get(address(lab[0]["url"], "/api/kernelspecs"))["kernelspecs"]
    assert specs["python3"]["spec"]["argv"][0] != "/another/python"


def test_there_is_no_news_and_no_look_for_updates(lab: tuple[dict[str, Any], Path]) -> None:
    url = lab[0]["url"]
    settings = get(address(url, "/lab/api/settings/@jupyterlab/apputils-extension:notification"))
    defaults = {name: field["default"] for name, field in settings["schema"]["properties"].items()}
    assert (defaults["fetchNews"], defaults["checkForUpdates"]) == ("false", False)
    assert get(address(url, "/lab/api/news"))["news"] == []
    assert get(address(url, "/lab/api/update")) == {"notification": None}


def test_the_users_own_settings_are_left_alone(lab: tuple[dict[str, Any], Path]) -> None:
    assert not (lab[1] / ".jupyter").exists()
