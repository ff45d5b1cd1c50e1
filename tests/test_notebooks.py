"""The notebooks: one question each, the answer first, its claims asserted last; stored without outputs, run here."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM
from nbclient import NotebookClient
from nbformat import NotebookNode, read, validate
from nbformat.v4 import new_code_cell

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
FOUND = sorted(NOTEBOOKS.rglob("*.ipynb"))
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# What a notebook is run with here: as few replications as an interval needs, and only what its claims are about.
QUICK: dict[str, dict[str, Any]] = {
    "01_provider_limits": {"replications": 2, "minutes": 20, "rates": [24, 36]},
    "02_shared_or_dedicated": {
        "replications": 2,
        "sweep_replications": 1,
        "quotas": [500, 2000, 3000],
        "strangers": [4000, 40000],
    },
    "03_warmup_and_neighbours": {"replications": 2, "pools": 2, "shares": [0.0, 0.3], "senders": [10, 150]},
    "04_load_test": {"time_scale": 400.0},
    "05_simulated_or_measured": {"alternatives": ["SparkPost"], "time_scale": 300.0},
    "07_your_own_logs": {"replications": 3},
}

each = pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])


def notebook(path: Path) -> NotebookNode:
    found: NotebookNode = read(path, as_version=4)  # type: ignore[no-untyped-call]
    return found


def code(path: Path) -> list[NotebookNode]:
    return [cell for cell in notebook(path).cells if cell.cell_type == "code"]


def parameters(cells: list[NotebookNode]) -> list[int]:
    """Return the places of the cells that papermill would fill in."""
    return [place for place, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]


def assigned(source: str) -> set[str]:
    """Return the names that a cell's own lines assign."""
    targets = (target for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets)
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_there_are_notebooks_and_each_quick_setting_is_for_one() -> None:
    assert {path.stem for path in FOUND} >= set(QUICK)


@each
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    validate(notebook(path))
    assert [cell.id for cell in code(path) if cell.outputs or cell.execution_count is not None] == []


@each
def test_a_notebook_is_stored_without_traces_of_where_it_ran(path: Path) -> None:
    assert notebook(path).metadata == {"kernelspec": KERNEL}
    assert [cell.metadata for cell in notebook(path).cells if cell.metadata] == [{"tags": ["parameters"]}]
    constants = (node for cell in code(path) for node in ast.walk(ast.parse(cell.source)))
    texts = [node.value for node in constants if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if re.match(r"/\w+/|~|file:|[A-Z]:\\", text)] == []


@each
def test_a_notebook_has_one_question_and_the_answer_first(path: Path) -> None:
    first, *rest = notebook(path).cells
    question, _, answer = first.source.partition("\n")
    assert first.cell_type == "markdown"
    assert question.startswith("# ")
    assert question.endswith("?")
    assert any(letter.isdigit() for letter in answer)
    titles = [cell for cell in rest if cell.cell_type == "markdown" and cell.source.startswith("# ")]
    assert titles == []


@each
def test_a_notebook_is_short_and_leaves_functions_to_the_package(path: Path) -> None:
    assert len(notebook(path).cells) <= 26
    functions = (node for cell in code(path) for node in ast.walk(ast.parse(cell.source)))
    assert [node.name for node in functions if isinstance(node, ast.FunctionDef | ast.ClassDef)] == []


@each
def test_a_notebook_has_one_cell_of_parameters_before_all_other_code(path: Path) -> None:
    assert parameters(code(path)) == [0]
    assert "seed" in assigned(code(path)[0].source)


@each
def test_a_notebook_asserts_its_claims_last(path: Path) -> None:
    last = notebook(path).cells[-1]
    assert last.cell_type == "code"
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(last.source)))


def made_quick(path: Path) -> NotebookNode:
    """Return a notebook with the quick settings, in this environment only, where a warning is an error."""
    document = notebook(path)
    (place,) = parameters(document.cells)
    quick = QUICK.get(path.stem, {"replications": 2})
    assert set(quick) <= assigned(document.cells[place].source)
    lines = [
        "import sys, warnings",
        f"assert sys.prefix == {sys.prefix!r}, 'not the kernel of this environment'",
        "warnings.simplefilter('error')",
        *(f"{name} = {value!r}" for name, value in quick.items()),
    ]
    document.cells.insert(place + 1, new_code_cell("\n".join(lines)))  # type: ignore[no-untyped-call]
    document.cells.append(new_code_cell("warnings.simplefilter('ignore')"))  # type: ignore[no-untyped-call]
    return document


def complaints(document: NotebookNode) -> list[str]:
    """Return what cells that were run printed, on whichever stream, and their errors."""
    said = [output for cell in document.cells if cell.cell_type == "code" for output in cell.outputs]
    return [json.dumps(output) for output in said if output.output_type in ("stream", "error")]


if CHROMIUM is None:  # where there is a browser, test_browser runs them in it, under the same rules

    @each
    def test_a_notebook_runs_from_top_to_bottom(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        document = made_quick(path)
        # kernels that somebody installed for their own use are not asked
        monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        monkeypatch.delenv("JUPYTER_PATH", raising=False)
        NotebookClient(document, timeout=240, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
        assert complaints(document) == []
