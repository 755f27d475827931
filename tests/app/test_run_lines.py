"""The text in which a run reaches the page: it grows at its end, and holds all of the run."""

import itertools
import json

from app.payloads.run_lines import LAST, run_lines
from app.payloads.runs import with_samples
from app.tabs.generate import example


def part(count: int, run_id: str = "a") -> dict:
    """The first steps of the example, as a run that still grows."""
    run = {key: value for key, value in example().items() if key != "vectors"}
    steps = example()["steps"][:count]
    return {**run, "run_id": run_id, "steps": steps, "ended": False, "finished": False, "status": ""}


def test_a_growing_run_only_appends():
    texts = [run_lines(with_samples([part(n), part(n, "b")])) for n in range(4)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert [text.count("\n") for text in texts] == [1, 3, 5, 7]
    ends = [{**example(), "run_id": name, "steps": example()["steps"][:3]} for name in "ab"]
    assert run_lines(with_samples(ends)).startswith(texts[-1])


def test_the_lines_hold_every_part_of_a_run():
    run = with_samples([example()])
    (head,), *steps, (end,) = map(json.loads, run_lines(run).splitlines())
    assert [number for number, _ in steps] == [0] * len(run["steps"])
    assert {**head, "steps": [step for _, step in steps], **end, "samples": []} == run
    assert set(LAST) == set(end)
