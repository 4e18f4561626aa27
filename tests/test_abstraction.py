"""A level on top of a world model: what it sees, that it does not collapse, how far it predicts, and acting by both."""

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc.distillation import label
from mpc.hierarchy import compilation
from tests import tiny
from worldmodels import abstraction

SIZES: dict[str, Any] = {"latent": 8, "hidden": 16, "head": 16, "expander": 16}
SMALL: dict[str, Any] = {"latent": 4, "hidden": 16, "head": 16, "expander": 16}


def lower() -> worldmodels.JEPA:
    return worldmodels.JEPA(tiny.SPEC, **SIZES)


def untrained(below, stride: int = 5, seed: int = 0, **settings) -> worldmodels.Abstraction:
    spec = abstraction.spec_above(below, stride)
    settings = {**SMALL, "noise": "quantised", "noise_size": 6, "actions": "latent", **settings}
    return worldmodels.Abstraction(below, worldmodels.JEPA(spec, seed=seed, **settings), stride)


def test_it_sees_the_latents_below_at_its_stride_from_every_first_step():
    model, data = lower(), tiny.episodes(count=1, length=12)
    seen = worldmodels.abstract_episodes(model, data, 5)
    latents = np.asarray(jax.vmap(lambda o: model.features(model.start(o)))(dict(data[0].observations)))
    assert [len(piece) for piece in seen] == [2, 2, 2, 1, 1]  # of 13 moments: 0 5 10, 1 6 11, 2 7 12, 3 8, 4 9
    np.testing.assert_allclose(seen[2].observations["below"], latents[2::5], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen[2].costs, [data[0].costs[2:7].sum(), data[0].costs[7:12].sum()], rtol=1e-5)
    assert seen.spec.seconds_per_step == pytest.approx(5 * tiny.SPEC.seconds_per_step)


def test_it_is_a_world_model_and_can_be_stacked():
    first, observation = untrained(lower()), cast(Any, tiny.observation())
    second = untrained(first, stride=3, latent=3, members=2)
    assert first.futures == 1 and second.futures == 2
    assert second.spec.seconds_per_step == pytest.approx(15 * tiny.SPEC.seconds_per_step)
    assert second.spec.action == worldmodels.DiscreteAction(6)
    for model in (first, second):
        assert isinstance(model, worldmodels.WorldModel)
        latent = model.start(observation)
        noise = model.draw_noise(4, 2, key=jax.random.key(0))
        made = model.predict(latent, jnp.asarray(3), noise[0, 0])
        assert noise.shape == ((1, 2, 0) if model is first else (4, 2, 1)) and made.shape == latent.shape
        assert {name: value.shape for name, value in model.readout(made).items()} == dict(tiny.SPEC.observation)
    latent = first.start(observation)
    assert int(first.infer_action(latent, first.predict(latent, jnp.asarray(3), jnp.zeros(0)))) == 3
    pieces = worldmodels.abstract_episodes(first, tiny.episodes(count=1, length=31), 3)
    assert pieces.spec.seconds_per_step == pytest.approx(second.spec.seconds_per_step) and len(pieces[0]) == 2


@pytest.mark.slow
def test_it_does_not_collapse_and_predicts_further_than_repeating_itself():
    data = tiny.episodes(count=16, length=60)
    below = worldmodels.train(lower(), data, updates=400)
    settings = worldmodels.TrainingSettings(batch=64, length=3, on_collapse="stop")
    above = worldmodels.abstract(below, data, 5, settings, codes=8, updates=800, **SMALL)
    seen = worldmodels.abstract_episodes(below, tiny.episodes(count=8, length=60, seed=5), 5)
    latents = jax.vmap(jax.vmap(lambda latent: above.model.start({"below": latent})))(
        np.stack([piece.observations["below"] for piece in seen if len(piece) == 11])
    )

    def course(latents):
        """Errors of each of 11 steps, open loop along the actions that say it best, and those actions."""

        def step(latent, target):
            action = above.infer_action(latent, target)
            made = above.predict(latent, action, jnp.zeros(0))
            return made, (((made - target) ** 2).mean(), action)

        return jax.lax.scan(step, latents[0], latents[1:])[1]

    errors, actions = jax.jit(jax.vmap(course))(latents)
    repeated = ((latents[:, :1] - latents[:, 1:]) ** 2).mean(-1)
    assert float(worldmodels.effective_rank(latents.reshape(-1, 4))) > 1.5 and float(latents.reshape(-1, 4).std(0).min()) > 0.3
    assert (errors.mean(0) < 0.5 * repeated.mean(0)).all()  # from half a second to 5.5
    assert len(np.unique(actions)) >= 6


def agent(**changes) -> mpc.HierarchicalAgent:
    model = lower()
    lowest = planners.RandomShooting(10, samples=8, iterations=1)
    planner = mpc.HierarchicalPlanner((lowest, planners.CategoricalCEM(2, samples=8, iterations=1, elites=2)))
    cost = mpc.cost(lambda readout, action, step: readout["position"][0] ** 2)
    settings: dict[str, Any] = {
        "model": model,
        "cost": cost,
        "planner": planner,
        "upper": (untrained(model),),
        "manner": mpc.effort(),
    }
    return mpc.HierarchicalAgent(**{**settings, **changes})


def test_an_agent_acts_by_both_levels_the_upper_at_its_own_pace():
    actor, observation = agent(), tiny.observation()
    state, ages = actor.reset(observation), []
    for number in range(6):
        decision, state = actor.act(state, observation, key=jax.random.key(number))
        ages.append(int(state.search.courses[0].age))
    assert ages == [0, 1, 2, 3, 4, 0]
    assert {"subgoal", "cost", "terminal"} == set(decision.plan.terms) and np.isfinite(decision.cost)
    tiny.SPEC.check_action(decision.action)
    # The end of the plan is charged with what is left to the second subgoal.
    reached = actor.upper[0].lift(decision.plan.latents[-1])
    aimed = state.search.courses[0].states[0, 2]
    assert float(decision.plan.terms["terminal"]) == pytest.approx(float(((reached - aimed) ** 2).mean()), rel=1e-3)


@pytest.mark.slow
def test_controller_and_distillation_take_it_as_any_other_agent():
    actor = agent()
    controller = mpc.Controller(actor, mpc.ControllerSettings(period=0.1))
    controller.warm_up(1)
    for number in range(3):
        decision = controller.step(tiny.observation(), 0.1 * number)
    assert decision.status.faults == () and np.isfinite(decision.action).all()
    labels = label(actor, list(tiny.episodes(count=2, length=6)), key=jax.random.key(0))
    assert labels.actions.shape == (12, 1) and np.abs(labels.actions).max() <= 1


@pytest.mark.slow
def test_upper_levels_are_compiled_and_their_policies_propose_their_plans():
    """The task: the upper level's latent. Its policy learns the code that the planner finds, and proposes it."""
    upper = planners.CategoricalCEM(1, samples=32, iterations=1, elites=4)
    actor = agent(
        cost=mpc.cost(lambda readout, action, step: readout["position"][0]),
        planner=mpc.HierarchicalPlanner((planners.RandomShooting(5, samples=8, iterations=1), upper)),
    )
    recorded = list(tiny.episodes(count=8, length=40))
    settings = mpc.DistillationSettings(hidden=32, updates=400)
    (policy,) = mpc.compile_levels(actor, recorded, settings)
    above, seen = actor.above(1), compilation.seen_from(actor.upper[0], recorded)
    assert [len(each) for each in seen] == [8] * 8 and seen[0].actions.dtype == np.int32
    said = label(above, list(seen), key=jax.random.key(9))
    chosen = np.asarray(jax.vmap(lambda features: policy(features).mean)(said.features))
    commonest = np.bincount(np.asarray(said.actions)).max() / len(said.actions)
    assert (chosen == np.asarray(said.actions)).mean() > max(0.85, commonest + 0.1)
    few = planners.CategoricalCEM(1, samples=4, iterations=1, elites=2, proposals=2)
    guided = replace(actor, policies=(policy,), planner=mpc.HierarchicalPlanner((planners.RandomShooting(5, samples=8), few)))
    assert actor.problem().levels[1].problem.proposal is None
    assert guided.problem().levels[1].problem.proposal is not None
    assert not seen[0].terminated and seen[0].truncated
    state = guided.reset(tiny.observation())
    decision, state = guided.act(state, tiny.observation(), key=jax.random.key(0))
    assert np.isfinite(decision.cost)
    with pytest.raises(mpc.HierarchyError, match="5 steps"):
        mpc.compile_levels(actor, list(tiny.episodes(count=1, length=3)))
    with pytest.raises(mpc.HierarchyError, match="level=2"):
        actor.above(2)
    with pytest.raises(mpc.HierarchyError, match="2 policies for 1 models"):
        replace(actor, policies=(policy, policy))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: agent(planner=planners.CEM(10)), "HierarchicalPlanner"),
        (lambda: agent(upper=()), "2 planners for 1 models"),
        (lambda: agent(critic=object(), policy=object()), "no critic below is heeded"),
        (lambda: agent(upper=(untrained(worldmodels.JEPA(tiny.SPEC, seed=1, **SIZES)),)), "another model"),
        (lambda: agent(upper=(untrained(lower(), stride=4),)), "stride 4"),
    ],
)
def test_agents_whose_levels_do_not_fit_are_refused(make, words):
    with pytest.raises(mpc.HierarchyError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: worldmodels.abstract(lower(), tiny.episodes(), 5, **{**SMALL, "latent": 8}), worldmodels.SpecError, "fewer"),
        (lambda: worldmodels.abstract(lower(), tiny.episodes(), 0, **SMALL), worldmodels.SpecError, "stride=0"),
        (lambda: worldmodels.abstract(lower(), tiny.episodes(tiny.POSITION), 5, **SMALL), worldmodels.DataError, "position"),
        (lambda: worldmodels.abstract(lower(), tiny.episodes(length=4), 5, **SMALL), worldmodels.DataError, "longer"),
        (
            lambda: worldmodels.abstract(worldmodels.JEPA(tiny.SPEC, memory="stack", **SIZES), tiny.episodes(), 5, **SMALL),
            worldmodels.SpecError,
            "memory='none'",
        ),
    ],
)
def test_what_cannot_be_abstracted_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
