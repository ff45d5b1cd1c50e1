"""Write the summary table of a small scenario again: ``python -m tests.baselines``.

`test_experiment.py` compares it exactly. When a change is meant to change numbers, run this and review the difference.
"""

from pathlib import Path

from simlib.experiment import compare
from simlib.scenario import Scenario

FOLDER = Path(__file__).parent


def table() -> str:
    """Return the summary of `team.toml` as CSV, numbers to nine digits."""
    result = compare(Scenario.load(FOLDER / "team.toml"), replications=5, seed=20260601, jobs=1)
    return str(result.table().to_csv(index=False, float_format="%.9g", lineterminator="\n"))


if __name__ == "__main__":
    (FOLDER / "team.csv").write_text(table(), encoding="utf-8")
