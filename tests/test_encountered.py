"""Latents of recorded episodes, against one observation after the other."""

import jax
import numpy as np
import pytest

import mpc
import worldmodels
from mpc.encountered import encountered
from tests import tiny
from worldmodels import Episodes
from worldmodels.data.windows import normalised


def one_after_the_other(model, episode):
    actions = normalised(episode.actions, model.spec)
    latent = model.start({name: values[0] for name, values in episode.observations.items()})
    found = [latent]
    for number, action in enumerate(actions, 1):
        latent = model.observe(latent, action, {name: values[number] for name, values in episode.observations.items()})
        found.append(latent)
    return jax.tree.map(lambda *parts: np.stack(parts), *found)


MODELS = {
    "memoryless": lambda: worldmodels.JEPA(tiny.SPEC, latent=4, hidden=8),
    "stack": lambda: worldmodels.JEPA(tiny.POSITION, latent=4, hidden=8, memory="stack", history=3),
    "recurrent, discrete": lambda: worldmodels.JEPA(tiny.DISCRETE, latent=4, hidden=8, memory="recurrent", history=3),
    "pictures": lambda: worldmodels.JEPA(tiny.BOTH, latent=4, hidden=8),
    "remembering": lambda: mpc.RememberingAction(worldmodels.JEPA(tiny.SPEC, latent=4, hidden=8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_acting(name, monkeypatch):
    monkeypatch.setattr("mpc.encountered.ABREAST", 2)
    monkeypatch.setattr("mpc.encountered.STRETCH", 4)
    model = MODELS[name]()
    episodes = [tiny.episodes(model.spec, count=1, length=length, seed=length)[0] for length in (6, 2, 3)]
    expected = [one_after_the_other(model, episode) for episode in episodes]
    found = encountered(model, Episodes(model.spec, tuple(episodes)))
    for a, b in zip(
        jax.tree.leaves(found), jax.tree.leaves(jax.tree.map(lambda *x: np.concatenate(x), *expected)), strict=True
    ):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_memory_runs_along():
    """What the stack holds at the end is the last observations, not the first one many times."""
    model = MODELS["stack"]()
    found = encountered(model, tiny.episodes(tiny.POSITION, count=1, length=10))
    alone = jax.vmap(model.start)(tiny.episodes(tiny.POSITION, count=1, length=10)[0].observations)
    np.testing.assert_allclose(found.state[0], alone.state[0], atol=1e-6)
    assert np.abs(np.asarray(found.state[1:] - alone.state[1:])).max() > 1e-3
