"""The notebook of the tour runs from top to bottom with the bundled model."""

import contextlib
import io
import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_cells_of_the_tour_run_in_order(monkeypatch):
    monkeypatch.chdir(DOCS)
    cells = json.loads((DOCS / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    printed = []
    for number, source in enumerate(code, 1):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(source, f"tour.ipynb, code cell {number}", "exec"), names)
        printed.append(out.getvalue())
    assert len(code) >= 8 and all(printed)
    assert "100% of the tokens are restored" in printed[1]
    assert len(names["steps"]) == 16 and names["score"].positions > 0
    assert sum(candidate.count for candidate in names["pool"]) == 200
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
