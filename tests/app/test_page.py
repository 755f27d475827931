from app.page import SESSIONS, build, launch_options


def test_a_session_that_leaves_the_memory_loses_nothing():
    assert launch_options()["state_session_capacity"] == SESSIONS
    assert not any(block.stateful for block in build().blocks.values())
