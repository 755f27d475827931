from pathlib import Path

from app.components import MapResult
from app.page import SESSIONS, build, launch_options


def test_a_session_that_leaves_the_memory_loses_nothing():
    assert launch_options()["state_session_capacity"] == SESSIONS
    assert not any(block.stateful for block in build().blocks.values())


def test_gradio_writes_no_type_stub_of_a_component():
    class Component(MapResult):
        """Gradio would write a stub beside this file."""

    assert not Path(__file__).with_suffix(".pyi").exists()
