import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import calm

from .conftest import lm_settings, log

LAUNCH = Path(calm.training.__file__).parent / "launch"


# What "accelerate launch" passes to the processes for sharded.yaml. Accelerate supports FSDP on accelerators only, so
# the CPU is declared as one.
SHARDED = """
import os
from accelerate import PartialState
from accelerate.utils import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
for key, value in load_config_from_file(sys.argv[3]).fsdp_config.items():
    os.environ[key.upper().replace("LAYER_CLS", "CLS")] = str(value)
os.environ["ACCELERATE_USE_FSDP"] = "true"
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
"""


TRAIN = """
import json, sys
{before}
from accelerate.state import AcceleratorState
from calm.training import tasks
settings = json.load(open(sys.argv[1]))
tasks.train("lm", {{**settings, "max_minutes": 0}})  # one step; a resumed run takes the others
tasks.train("lm", settings)
assert AcceleratorState().num_processes == int(sys.argv[2])
print(AcceleratorState().distributed_type)
"""


def _train_in_processes(folder: Path, count: int, before: str, settings: dict) -> tuple[str, list[float], dict]:
    """The kind of distribution, the losses of each step, and the weights."""
    folder.mkdir()
    script, recipe_file = folder / "train.py", folder / "settings.json"
    script.write_text(TRAIN.format(before=before))
    recipe_file.write_text(json.dumps({**settings, "out": str(folder / "run")}))
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(count), "--master_port", "29511"] * (count > 1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd()), "ACCELERATE_USE_CPU": "1"}
    command = [sys.executable, *launch, str(script), str(recipe_file), str(count), str(LAUNCH / "sharded.yaml")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-2000:]
    losses = [row["loss"] for row in log(folder / "run") if "loss" in row]
    return process.stdout, losses, calm.load(folder / "run" / "last", device="cpu").model.state_dict()


def test_two_processes_train_as_one(tmp_path, tokenizer_folder, autoencoder):
    """Two CPU processes share each batch, and in the third run also the weights. Losses and weights equal those of one
    process that computes the same rows, with the same noise, in two accumulation steps."""
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=3, token_loss_weight=0.0)
    _, losses, weights = _train_in_processes(tmp_path / "one", 1, "", {**settings, "accumulation_steps": 2})
    assert len(losses) == 3
    for name, before, kind in (("copied", "", "MULTI_CPU"), ("sharded", SHARDED, "FSDP")):
        output, sharded_losses, trained = _train_in_processes(tmp_path / name, 2, before, settings)
        assert kind in output
        assert sharded_losses == pytest.approx(losses, rel=1e-5), name
        for key, tensor in weights.items():
            assert torch.allclose(tensor, trained[key], atol=1e-5), (name, key)


def test_accelerate_reads_the_launch_files():
    from accelerate.commands.config.config_args import load_config_from_file

    files = {path.stem: load_config_from_file(str(path)) for path in LAUNCH.glob("*.yaml")}
    assert {name: (config.num_machines, config.num_processes) for name, config in files.items()} == {
        "one-node": (1, 8),
        "nodes": (4, 32),
        "sharded": (1, 8),
    }
