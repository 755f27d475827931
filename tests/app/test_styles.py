"""The style sheets work as Gradio serves them: it puts a prefix in front of each selector of a list."""

import re
from pathlib import Path

import pytest

SHEETS = sorted((Path(__file__).parents[2] / "assets" / "css").glob("*.css"))


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.stem)
def test_no_selector_has_a_list_within_parentheses(sheet):
    """Gradio would put its prefix into the list, so that the parts behind the first comma match nothing."""
    rules = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r":(?:is|where|not|has)\([^{}]*?,[^{}]*?\)[^{}]*\{", rules) == []
    assert ".gradio-container " not in rules
