"""Limits of size: a Python file has at most 350 lines, a function at most 80. Biome checks the same for JavaScript."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE_LIMIT, FUNCTION_LIMIT = 350, 80
SOURCES = [
    ROOT / "app.py",
    *(path for name in ("calm", "app", "benchmarks", "tests") for path in ROOT.glob(f"{name}/**/*.py")),
]


def test_files_and_functions_stay_within_their_limits():
    too_long = []
    for path in SOURCES:
        source, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        if (lines := len(source.splitlines())) > FILE_LIMIT:
            too_long.append(f"{name} has {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LIMIT:
                    too_long.append(f"{name}: {node.name} has {lines} lines")
    assert len(SOURCES) > 200 and not too_long
