"""JupyterLab on the notebooks, and the app, however sendlab was installed.

Both listen on loopback, with a token; nothing is asked of another machine, and no file that is there is overwritten.
"""

import json
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

__all__ = ["START", "Unpacked", "default_folder", "serve", "serve_app", "shipped", "unpack"]

START = "README.md"
"""What JupyterLab opens first."""
HIDDEN = ".jupyter"
"""In the folder: what JupyterLab remembers about it, apart from the user's own settings."""
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
"""Defaults of JupyterLab; what a user has set himself goes before them."""
KINDS = (".ipynb", ".md", ".toml", ".csv")


@dataclass(frozen=True)
class Unpacked:
    """What came of unpacking the notebooks.

    Parameters
    ----------
    written : tuple of str
        Files that were not there before, relative to the folder.
    kept : tuple of str
        Files that were there and differ from what is shipped: they stay as they are.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]


def shipped() -> Path:
    """Return the folder of notebooks, scenarios and data that this installation came with.

    Returns
    -------
    Path
        A checkout's, or the wheel's own.

    Examples
    --------
    >>> (shipped() / START).is_file()
    True
    """
    package = Path(str(files("simlib")))
    within = package / "notebooks"  # in the wheel; a checkout has them beside the package
    return within if within.is_dir() else package.parent / "notebooks"


def default_folder() -> Path:
    """Return where the notebooks are opened if nobody says: a checkout's own, else ``sendlab-notebooks`` here.

    Returns
    -------
    Path
        It need not exist.
    """
    here = Path("notebooks")
    return here if here.is_dir() and here.resolve() == shipped().resolve() else Path("sendlab-notebooks")


def unpack(folder: Path) -> Unpacked:
    """Copy the notebooks, scenarios and data into a folder; a file that is there is never overwritten.

    Parameters
    ----------
    folder : Path
        Where to; made if it isn't there.

    Returns
    -------
    Unpacked
        What was written, and what was kept.

    Raises
    ------
    OSError
        If the folder can't be written to.
    """
    source = shipped()
    written, kept = [], []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.suffix not in KINDS or not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as new:
                new.write(path.read_bytes())
            written.append(name.as_posix())
        except FileExistsError:
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                kept.append(name.as_posix())
    return Unpacked(tuple(written), tuple(kept))


def serve(folder: Path, options: Sequence[str], ready: Callable[[str], None]) -> None:
    """Run JupyterLab on a folder until it is stopped: on loopback, with a token.

    Parameters
    ----------
    folder : Path
        The folder to be seen.
    options : sequence of str
        Further options of JupyterLab, such as ``--no-browser`` or ``--port=9999``; they go before ours.
    ready : callable
        Told the address, token included, as soon as the server answers.
    """
    # the kernel of this environment goes before one of the same name that a user has installed for himself
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    import voila.server_extension  # noqa: F401 - it lets warnings through when imported, so it comes first
    from jupyterlab.labapp import LabApp

    token = secrets.token_hex(24)
    page = f"/lab/tree/{START}" if (folder / START).is_file() else "/lab"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what Jupyter's parts tell each other
        server = LabApp.initialize_server(argv=[*_own(folder.resolve(), token, page), *options])

        def tell() -> None:
            held = server.identity_provider.token  # unless an option says otherwise, ours
            ready(f"{server.connection_url.rstrip('/')}{page}" + (f"?token={held}" if held else ""))

        server.io_loop.add_callback(tell)
        server.start()


def serve_app(language: str, options: Sequence[str], ready: Callable[[str], None]) -> None:
    """Run the app, notebook 06's widget without any code, until it is stopped: on loopback, with a token.

    Parameters
    ----------
    language : str
        What it speaks at first: ``en`` or ``ja``.
    options : sequence of str
        Further options of Voila, such as ``--port=9999``; they go before ours.
    ready : callable
        Told the address, token included, as soon as the server answers.
    """
    home = Path(str(files("simlib") / "jupyter"))
    paths = [str(home), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)  # where Voila looks for the template
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    from voila.app import Voila

    class App(Voila):  # type: ignore[misc]
        """Voila that says when it is ready, instead of opening a browser."""

        def launch_browser(self) -> None:
            ready(f"{self.connection_url}?lang={language}&token={self.token}")

    own = [
        str(home / "app.ipynb"),
        "--Voila.ip=127.0.0.1",
        f"--Voila.token={secrets.token_hex(24)}",
        "--Voila.log_level=WARN",
        "--Voila.open_browser=True",
        "--VoilaConfiguration.template=sendlab",
        "--VoilaConfiguration.show_tracebacks=False",
    ]
    App.launch_instance([*own, *options])


def _own(folder: Path, token: str, page: str) -> list[str]:
    """Return the options that make JupyterLab ours."""
    hidden = folder / HIDDEN
    hidden.mkdir(exist_ok=True)
    (hidden / "overrides.json").write_text(json.dumps(SETTINGS, indent=1), encoding="utf-8")
    return [
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.log_level=WARN",
        "--LabApp.log_level=WARN",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url={page}",
        f"--IdentityProvider.token={token}",
        f"--LabApp.app_settings_dir={hidden}",
        f"--LabApp.workspaces_dir={hidden / 'workspaces'}",
        # no news, no look for updates, no list of extensions: nothing is asked of the network
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        *(["--ServerApp.allow_root=True"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
        # a question that nobody can answer is not asked
        *([] if sys.stdin is not None and sys.stdin.isatty() else ["--ServerApp.answer_yes=True"]),
    ]
