"""Puts measured figures into the documents."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_figures(document: str, name: str, text: str) -> None:
    """Replaces the text between the marks ``<!-- NAME -->`` and ``<!-- end of NAME -->`` of a document."""
    path, start, end = ROOT / document, f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
