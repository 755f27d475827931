"""Checked arguments for the tests of the tabs."""

from typing import Any

from app.backends import LocalModel
from app.requests import BranchArguments, GenerateArguments


def run_arguments(prompt: Any, temperature: Any, max_new_tokens: Any, seed: Any, **more: Any) -> GenerateArguments:
    """The arguments of a run, or of a branch where ``branch`` is given."""
    kind = BranchArguments if "branch" in more else GenerateArguments
    values = {"prompt": prompt, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed, **more}
    return kind.parse({"pool_size": 100, **values})


def local_model(lm: Any) -> LocalModel:
    """A model of this process without a map, as the tabs get it."""
    return LocalModel(lm.name, lm, None)
