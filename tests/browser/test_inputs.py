"""Inputs of the page: values of an address, emptied boxes, the Enter key, an empty prompt."""

import pytest

from .conftest import Visitor


def value(visitor: Visitor, box: str) -> str:
    return visitor.page.locator(f"{box} input[type=number]").first.input_value()


def test_an_address_brings_only_values_that_the_inputs_accept(browser, address):
    context = browser.new_context()
    page = context.new_page()
    visitor = Visitor(page, f"{address}/?t=5&length=-5&sampler=foo&pool=1e9&samples=x&seed=7&prompt=Once").open()
    page.wait_for_function("() => document.querySelector('#seed input').value === '7'")
    assert [value(visitor, box) for box in ("#temperature", "#length", "#samples")] == ["2", "4", "1"]
    assert page.get_by_label("auto", exact=True).is_checked()
    visitor.set("#temperature", 0.5)
    assert visitor.generate() and visitor.problems == []
    context.close()


@pytest.mark.parametrize(("box", "number"), [("#temperature", "0.7"), ("#length", "48"), ("#samples", "2")])
def test_an_emptied_box_keeps_its_value(visitor, box, number):
    visitor.set(box, number)
    visitor.set(box, "")
    assert value(visitor, box) == number
    assert visitor.page.locator(f"{box} input[type=range]").input_value() == number


def test_enter_in_the_prompt_runs(visitor):
    page = visitor.page
    visitor.set("#length", 16)
    before = visitor.run_id()
    page.locator("#prompt textarea").fill("Once upon a time")
    page.locator("#prompt textarea").press("Enter")
    visitor.another_run(before)
    visitor.finished()
    assert page.locator("#run .calm-prompt").inner_text() == "Once upon a time"


def test_an_empty_prompt_becomes_a_story_prompt(visitor):
    page = visitor.page
    visitor.set("#length", 16)
    visitor.generate("  ")
    prompt = page.locator("#prompt textarea").input_value()
    assert prompt and page.locator("#run .calm-prompt").inner_text().strip() == prompt


def test_the_sample_above_is_named_in_the_list(visitor):
    visitor.set("#length", 16)
    visitor.set("#samples", 3)
    visitor.generate("Once upon a time")
    labels = visitor.page.locator(".calm-sample button").all_inner_texts()
    assert labels == ["Seed 0 · shown above", "Seed 1", "Seed 2"]
