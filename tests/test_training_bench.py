"""The training benchmark at tiny sizes: operations counted by hand, a twin that computes the same, complete lines. No timing is judged."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import loader, results, training
from tests import tiny
from worldmodels import JEPA, TrainingSettings
from worldmodels.data.windows import Buffer
from worldmodels.losses import losses
from worldmodels.training import start

SIZES = {"latent": 3, "hidden": 5, "head": 7, "expander": 4}
SETTINGS = TrainingSettings(batch=6, length=2)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'sailplan[peers]'")


def test_operations_are_those_counted_by_hand():
    encoder = 3 * (2 * 5 + 5 * 5 + 5 * 3) - 2 * 5
    predictor = 3 * (4 * 5 + 5 * 5 + 5 * 3)
    expander = 3 * (3 * 4 + 4 * 4)
    readout = 3 * (3 * 7 + 7 * 2) - 3 * 7
    cost = 3 * (4 * 7 + 7 * 1) - 4 * 7
    multiplied = 18 * encoder + 12 * predictor + 24 * expander + 30 * readout + 24 * cost + 2 * 12 * 4 * 4
    assert training.update_flops(JEPA(tiny.SPEC, **SIZES), SETTINGS) == 2 * multiplied


@pytest.mark.slow
def test_every_method_has_a_line_beside_the_loaders(tmp_path):
    with_torch = importlib.util.find_spec("torch") is not None
    lines = training.compare(JEPA(tiny.SPEC, **SIZES), tiny.episodes(), SETTINGS, 0.0, 2, with_torch)
    assert [line["method"] for line in lines] == ["sailplan", *(["pytorch"] if with_torch else [])]
    for line in lines:
        assert line["updates_per_second"] > 0 and line["roofline_fraction"] > 0
    assert lines[0]["compile_seconds"] > 0
    assert ("speedup_over_pytorch" in lines[0]) == with_torch
    read = loader._line(loader.STATE, "loader", 10, 256, 0.1, updates_per_second=3.0)
    for line in (read, *lines, *lines):
        results.write_line(tmp_path / "training.jsonl", line)
    written = results.read_lines(tmp_path / "training.jsonl")
    assert [line["method"] for line in written] == ["loader", *(line["method"] for line in lines)]
    assert json.loads((tmp_path / "training.jsonl").read_text().splitlines()[0])["updates_per_second"] == 3.0


@pytest.mark.slow
def test_states_and_pictures_are_read_from_memory_and_from_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "RESULTS", tmp_path / "training.jsonl")
    monkeypatch.setattr(loader, "LENGTH", 20)
    monkeypatch.setattr(loader, "PICTURES", 60)
    lines = loader.bench_loader(200, updates=200)
    assert [(line["task"], line["method"]) for line in lines] == [
        (task, method) for task in ("state-18", "pixels-64") for method in ("device", "loader")
    ]
    assert all(line["updates_per_second"] > 0 for line in lines)
    assert ["loader_windows_per_second" in line for line in lines] == [False, True] * 2
    assert results.read_lines(tmp_path / "training.jsonl") == lines
    with pytest.raises(results.ResultError, match="updates=100: expected at least 200"):
        loader.bench_loader(200, updates=100)


@pytest.fixture(scope="module")
def window():
    return Buffer.from_episodes(tiny.episodes(), 2).sample(6, 2, key=jax.random.key(0))


@needs_torch
def test_the_twin_computes_the_same_terms_and_gradients(window):
    import torch

    from benchmarks.torch_twin import PARTS, Training

    model = JEPA(tiny.SPEC, **SIZES)
    model.normaliser.fit(np.random.default_rng(0).normal(1.0, 3.0, (50, 2)))
    model.cost_normaliser.fit(np.random.default_rng(1).normal(2.0, 0.5, (50, 1)))
    graph, parameters, rest = nnx.split(start(model, SETTINGS).model, nnx.Param, ...)
    weights = {**SETTINGS.objective.weights, "readout": 1.0, "cost": 1.0}

    def loss(parameters):
        terms = losses(nnx.merge(graph, parameters, rest), SETTINGS, window)
        return sum(weights[name] * value for name, value in terms.items()), terms

    gradients, terms = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    trained = Training(model, Buffer.from_episodes(tiny.episodes(), 2), SETTINGS)
    given = [torch.tensor(np.asarray(part)) for part in (window.observations, window.actions, window.costs)]
    theirs = {name: float(value.detach()) for name, value in trained.twin.terms(*given).items()}
    np.testing.assert_allclose([theirs[name] for name in terms], [float(value) for value in terms.values()], rtol=2e-5)
    trained.loss(*given).backward()
    for name in PARTS:
        kernel = trained.twin.get_submodule(name)[-1].weight.grad.numpy().T
        np.testing.assert_allclose(kernel, np.asarray(gradients[name]["output"]["kernel"][...]), rtol=2e-3, atol=1e-6)
        first = trained.twin.get_submodule(name)[0].weight.grad.numpy().T
        np.testing.assert_allclose(first, np.asarray(gradients[name]["layers"][0]["kernel"][...]), rtol=2e-3, atol=1e-6)


@needs_torch
def test_the_twin_learns():
    from benchmarks.torch_twin import Training

    episodes = tiny.episodes()
    trained = Training(
        JEPA(tiny.SPEC, **SIZES), Buffer.from_episodes(episodes, 2), TrainingSettings(batch=32, length=2, warmup=1)
    )
    first = trained(1)
    assert trained(150) < 0.8 * first
    assert trained.updates == 151
