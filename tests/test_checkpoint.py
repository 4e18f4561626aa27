"""Weights on disk: bit for bit, from the folder alone, and whole after a kill."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import worldmodels
from tests.test_dataset import SPEC
from worldmodels import checkpoint, files, manifest
from worldmodels.errors import CheckpointError
from worldmodels.manifest import Manifest
from worldmodels.networks import MLP
from worldmodels.normaliser import Normaliser
from worldmodels.spec import Spec


@dataclass(frozen=True)
class SmallSettings:
    hidden: int = 4


class Small(nnx.Module):
    def __init__(self, spec: Spec, *, seed: int = 0, hidden: int = 4):
        self.spec = spec
        self.normaliser = Normaliser(spec.size)
        self.network = MLP(spec.size, (hidden, hidden), 2, rngs=nnx.Rngs(seed))


def save_small(folder: Path, seed: int = 0, hidden: int = 4, **extra) -> Small:
    model = Small(SPEC, seed=seed, hidden=hidden)
    checkpoint.save(folder, "model", model, settings=SmallSettings(hidden), spec=SPEC, **extra)
    return model


def build(content: Manifest) -> Small:
    return Small(content.spec, **content.settings)


def load_small(folder: Path) -> Small:
    return checkpoint.restore(folder, "model", build)


def assert_bits_equal(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_module_comes_back_bit_for_bit(tmp_path):
    model = save_small(tmp_path / "model", seed=3, hidden=5, updates=7)
    loaded = load_small(tmp_path / "model")
    assert_bits_equal(model, loaded)
    x = jnp.ones((2, SPEC.size))
    chex.assert_trees_all_equal(jax.jit(lambda m, x: m.network(x))(model, x), jax.jit(lambda m, x: m.network(x))(loaded, x))
    content = manifest.read(tmp_path / "model", "model")
    assert (content.settings, content.spec, content.extra["updates"]) == ({"hidden": 5}, SPEC, 7)
    assert content.extra["arrays"]["network/layers/0/kernel"] == "float32[3,5]"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_odd_numbers_and_dtypes_come_back_bit_for_bit(tmp_path):
    quiet = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)  # NaNs with a payload and with a sign
    tree = {
        "zeros": jnp.full(3, -0.0, jnp.float32),
        "odd": (jnp.asarray(quiet), jnp.asarray([jnp.inf, 1e-45, -1.0], jnp.float32)),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "flags": jnp.array([True, False]),
        "none": None,
        "count": jnp.asarray(2**31 - 1, jnp.int32),
        "empty": jnp.zeros((0, 4), jnp.float32),
    }
    checkpoint.save(tmp_path / "tree", "agent", tree, settings={}, spec=SPEC)
    loaded = checkpoint.restore(tmp_path / "tree", "agent", lambda _: tree)
    assert_bits_equal(tree, loaded)


def test_an_optimiser_state_comes_back(tmp_path):
    model = Small(SPEC)
    state = optax.adam(1e-3).init(nnx.state(model, nnx.Param))
    checkpoint.save(tmp_path / "run", "run", (model, state), settings=SmallSettings(), spec=SPEC)

    def both(content):
        return build(content), optax.adam(1e-3).init(nnx.state(build(content), nnx.Param))

    assert_bits_equal((model, state), checkpoint.restore(tmp_path / "run", "run", both))


def test_an_older_checkpoint_is_replaced(tmp_path):
    save_small(tmp_path / "model", seed=0, hidden=4)
    newer = save_small(tmp_path / "model", seed=1, hidden=6)
    assert_bits_equal(newer, load_small(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_relative_path_and_a_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_small(Path("deep/model"))
    Path("deep").rename("moved")
    assert_bits_equal(model, load_small(Path("moved/model")))


def test_a_folder_named_like_a_pattern(tmp_path):
    model = worldmodels.JEPA(SPEC, latent=4, hidden=4)
    worldmodels.save(model, tmp_path / "run[1]" / "a*b?")
    chex.assert_trees_all_equal(worldmodels.load(tmp_path / "run[1]" / "a*b?"), model)


def test_every_missing_or_changed_file_is_named(tmp_path):
    folder = tmp_path / "model"
    model = save_small(folder)
    names = list(manifest.read(folder).checksums)
    assert len(names) > 2
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            load_small(folder)
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(CheckpointError, match=f"{name} is damaged"):
                load_small(folder)
        path.write_bytes(whole)
    assert_bits_equal(model, load_small(folder))


def test_another_kind_format_or_folder(tmp_path):
    folder = tmp_path / "model"
    save_small(folder)
    with pytest.raises(CheckpointError, match="holds a model, expected a policy"):
        checkpoint.restore(folder, "policy", build)
    with pytest.raises(CheckpointError, match="holds a model, expected an empty place or a policy"):
        checkpoint.save(folder, "policy", Small(SPEC), settings={}, spec=SPEC)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_small(tmp_path / "nowhere")
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_small(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"no manifest\.json"):
        load_small(folder)


def test_weights_that_do_not_fit_are_named(tmp_path):
    save_small(tmp_path / "model", hidden=4)
    with pytest.raises(CheckpointError, match=r"network/layers/0/bias is float32\[4\], expected float32\[5\]"):
        checkpoint.restore(tmp_path / "model", "model", lambda content: Small(content.spec, hidden=5))
    with pytest.raises(CheckpointError, match=r"4 arrays do not fit .* normaliser/mean is float32\[3\], expected none"):
        checkpoint.restore(tmp_path / "model", "model", lambda content: nnx.state(build(content), nnx.Param))


def test_settings_of_another_version_are_named(tmp_path):
    checkpoint.save(tmp_path / "model", "model", Small(SPEC), settings={"width": 4}, spec=SPEC)
    with pytest.raises(CheckpointError, match=r"settings \{'width': 4\} build no model in this version"):
        load_small(tmp_path / "model")


@pytest.mark.parametrize("changed", [{"latent": "8"}, {"predictor": "mamba"}, {"model": "zzz"}])
def test_a_model_of_settings_that_cannot_be_is_named(tmp_path, changed):
    worldmodels.save(worldmodels.JEPA(SPEC, latent=8, hidden=4, head=4, expander=4), tmp_path / "model")
    path = tmp_path / "model/manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"settings": content["settings"] | changed}))
    with pytest.raises(CheckpointError, match=r"model: its settings .* build no model"):
        worldmodels.load(tmp_path / "model")


def test_a_failing_save_keeps_the_older_one(tmp_path):
    model = save_small(tmp_path / "model")
    with pytest.raises(CheckpointError, match="JSON"):
        save_small(tmp_path / "model", seed=1, note=print)
    with files.sole_writer(files.beside(tmp_path / "model", "lock")), pytest.raises(CheckpointError, match="another process"):
        save_small(tmp_path / "model", seed=1)
    assert_bits_equal(model, load_small(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


SAVER = """
import sys
from tests.test_checkpoint import save_numbered
number = int(sys.argv[2])
while True:
    save_numbered(sys.argv[1], number)
    print(number, flush=True)
    number += 1
"""


def save_numbered(folder: str | Path, number: int) -> None:
    checkpoint.save(folder, "model", {"weights": np.full((64, 64), number, np.int32)}, settings={"number": number}, spec=SPEC)


@pytest.mark.slow
def test_killed_while_saving_over_an_older_one(tmp_path):
    """A real SIGKILL at random moments: what loads is the last one reported as saved, or the one after it."""
    folder, number, moments = tmp_path / "model", 0, random.Random(0)
    for _ in range(4):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, str(folder), str(number)], stdout=subprocess.PIPE, text=True)
        assert saver.stdout is not None
        first = saver.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.3))
        saver.send_signal(signal.SIGKILL)
        last = int([first, *saver.stdout.read().splitlines()][-1])
        saver.wait()
        saver.stdout.close()
        assert saver.returncode == -signal.SIGKILL
        loaded = checkpoint.restore(folder, "model", lambda _: {"weights": jnp.zeros((64, 64), jnp.int32)})
        number = int(loaded["weights"][0, 0])
        assert number in (last, last + 1)
        assert manifest.read(folder).settings == {"number": number}
        assert (np.asarray(loaded["weights"]) == number).all()
        number += 1
    save_numbered(folder, number)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
