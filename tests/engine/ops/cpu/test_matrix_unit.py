import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = [HERE / "test_layers.py", HERE / "test_vocabulary.py", HERE.parents[1] / "test_head.py"]


def test_the_kernels_compute_the_same_by_a_matrix_unit(tmp_path):
    """Runs the other tests of the kernels with an emulated matrix unit, in a process with its own cache."""
    environment = {**os.environ, "EMULATED_UNIT": "", "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"}
    tests = [sys.executable, "-m", "pytest", *FILES, "-k", "unit or panels", "-p", "no:cacheprovider"]
    run = subprocess.run(tests, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
