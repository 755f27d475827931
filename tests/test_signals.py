"""Signals, full disks and consoles that lack characters, with the command line in its own process."""

import os
import signal
import subprocess
import sys

import pytest

WAIT = "import sys, time; from calm import cli, storyland; storyland.corpus = lambda *_: {}; sys.exit(cli.main({}))"
SLEEP = "(print('started', flush=True), time.sleep(600))"


def start(script: str, *arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, text=True, **pipes)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_command_in_one_line(number, code, word):
    process = start(WAIT.format(SLEEP, ["stories"]))
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and errors == f"error: {word}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_generation_in_one_line(number, code):
    script = "import sys; from calm import cli; sys.exit(cli.main(sys.argv[1:]))"
    process = start(script, "generate", "--device", "cpu", "--temperature", "0.9", "--max-new-tokens", "100000")
    first = process.stdout.read(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    lines = [line for line in errors.splitlines() if line.startswith("error") or "Traceback" in line]
    assert first and process.returncode == code and len(lines) == 1


def test_a_full_disk_of_the_output_is_reported_in_one_sentence():
    with open("/dev/full", "w") as full:
        process = start(WAIT.format("['A story.']", ["stories"]), stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors == "error: input or output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_lacks_characters_shows_their_codes(encoding):
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments in (["stories"], ["stories", "--json"]):
        process = start(WAIT.format("['Zoe 日本']", arguments), environment=environment)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and errors == ""
        assert output == ('["Zoe \\u65e5\\u672c"]\n' if "--json" in arguments else "Zoe \\u65e5\\u672c\n")
