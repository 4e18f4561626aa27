"""The ablations: every variant learns and is evaluated, and what it leaves out is left out."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mpc
from benchmarks import ablations
from mpc.learning import LearnerSettings, new_learner
from mpc.learning.losses import model_losses
from worldmodels.data.windows import Window
from worldmodels.spec import ContinuousAction, Spec

SPEC = Spec("test/line", (("x", (2,)),), ContinuousAction((-1.0,), (1.0,)), 1, 0.1)
TINY = {"latent": 8, "hidden": 16, "critic_hidden": 16, "policy_hidden": 16, "batch": 4}


@pytest.mark.parametrize(("method", "reached"), [("whole", False), ("reward-only", False), ("reconstruction", True)])
def test_what_is_observed_moves_the_encoder_only_where_it_is_reconstructed(method, reached):
    settings = replace(ablations.VARIANTS[method].settings.learner, **TINY)
    learner, key = new_learner(SPEC, settings), jax.random.key(0)
    nothing = jnp.zeros((settings.batch, settings.length))
    window = Window(
        observations=jax.random.normal(key, (settings.batch, settings.length + 1, 2)),
        actions=jnp.ones((settings.batch, settings.length, 1)),
        costs=nothing,
        continues=nothing,
    )
    graph, params, rest = nnx.split((learner.model, learner.critic, learner.continuation), nnx.Param, ...)

    @jax.jit
    @jax.grad
    def observed(params):
        modules = nnx.merge(graph, params, rest)
        losses, _ = model_losses(modules, learner.target, learner.policy, window, jnp.float32(0.9), 0.0, settings, key)
        return losses["readout"] + losses.get("reconstruction", 0.0)

    model, _, _ = nnx.merge(graph, observed(params), rest)
    moved = sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(nnx.split(model.encoder, nnx.Param, ...)[1]))
    assert (moved > 0) == reached
    assert LearnerSettings(**TINY).reconstruction == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["reconstruction", "no-critic", "mode-1"])
def test_every_variant_learns_and_is_evaluated(method, tmp_path, monkeypatch):
    variant = ablations.VARIANTS[method]
    small = {"samples": 16, "iterations": 1, "proposals": min(2, variant.settings.proposals), "seed_frames": 800}
    settings = replace(variant.settings, **small, learner=replace(variant.settings.learner, **TINY))
    monkeypatch.setitem(ablations.VARIANTS, method, replace(variant, settings=settings))
    monkeypatch.setattr(ablations, "RUNS", tmp_path)
    monkeypatch.setattr(ablations, "EPISODES", 1)
    line = ablations.measure("Pendulum-v1", method, 1, 1_600)
    assert np.isfinite(line["return_mean"]) and line["minutes"] > 0
    acted = variant.run(mpc.make("Pendulum-v1"), tmp_path, settings, seed=1).planning_agent()
    assert (getattr(acted, "critic", None) is None) == (method in ("no-critic", "mode-1"))
    assert hasattr(acted, "planner") == (method != "mode-1")
