"""What all tests share: a compilation cache in the checkout, and how hypothesis searches.

The environment is set here and nowhere in the packages: it is the application's choice, and the tests are one.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Before the first test module imports jax. A call that compiled once is read back in later runs, workers and subprocesses.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

settings.register_profile("sailplan", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("sailplan")


@pytest.fixture(autouse=True)
def _collected_again():
    """What a controller kept from the garbage collector, for good in a robot's process, is given back."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _few_memory_maps():
    """Every compiled program holds memory maps; Linux allows a process 65,530, and past them XLA dies in the next compilation."""
    yield
    if sys.platform == "linux" and Path("/proc/self/maps").read_text().count("\n") > 30_000:
        import jax

        jax.clear_caches()


@pytest.fixture
def patient(monkeypatch):
    """The flight recorder waits rather than drop a record, on a machine that has other things to do."""
    monkeypatch.setattr("mpc.controller.recorder.WAIT", 5.0)
