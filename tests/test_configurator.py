"""One engine, set up for several tasks: what changes, what does not, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpc
import planners
import worldmodels
from mpc import agent as planning
from mpc.critic import Critic
from mpc.errors import ConfigurationError, CostError, MPCError
from mpc.policy import Policy
from tests import tiny
from tests.planner_list import MEMBERS
from tests.test_agent import true_model

PLANNER = planners.CEM(horizon=8, samples=32, iterations=3, elites=8)
SMALL = {"latent": 8, "hidden": 8, "head": 8, "expander": 8}
COSTS = {"left": mpc.reach("position", -0.5), "right": lambda readout, action, step: (readout["position"][0] - 0.5) ** 2}


def task(**fields):
    return mpc.Task(**{"planner": PLANNER, **fields})


def engine(**tasks):
    model = true_model()
    model.normaliser.low[...], model.normaliser.high[...] = -jnp.ones(2), jnp.ones(2)
    return mpc.Configurator(
        model,
        costs=COSTS,
        **(tasks or {"west": task(cost={"left": 2.0}), "east": task(cost={"right": 1.0, "effort": 0.01}, discount=0.9)}),
    )


def with_own(**costs):
    return mpc.Configurator(true_model(), costs=costs, west=task(cost=dict.fromkeys(costs, 1.0)))


def solution():
    return Critic(2, tiny.SPEC, hidden=8), Policy(2, tiny.SPEC, hidden=8)


def test_an_episode_changes_its_task_and_nothing_compiles():
    body = engine()
    agents = {name: body.agent(name) for name in ("west", "east")}
    assert agents["west"].model is agents["east"].model is body.model
    position, velocity, ends = 0.0, 0.0, {}
    state = agents["west"].reset(tiny.observation(position, velocity))
    for name in ("west", "east", "west"):
        for step in range(50):
            decision, state = agents[name].act(state, tiny.observation(position, velocity), key=jax.random.key(step))
            position, velocity = tiny.step(position, velocity, float(decision.action[0]))
            if step == 0 and name == "west" and not ends:
                compiled = planning._act._cache_size()
        ends[name] = position
    assert planning._act._cache_size() == compiled
    assert abs(ends["west"] + 0.5) < 0.15 and abs(ends["east"] - 0.5) < 0.15


def test_a_task_changes_the_weights_it_names_and_nothing_else():
    body = engine()
    west, east = body.cost("west"), body.cost("east")
    assert jax.tree.structure(west) == jax.tree.structure(east)
    assert {name: float(weight) for name, weight in west.weights.items()} == {"left": 2.0, "right": 0.0, "effort": 0.0}
    assert {name: round(float(weight), 4) for name, weight in east.weights.items()} == {
        "left": 0.0,
        "right": 1.0,
        "effort": 0.01,
    }
    terms = east.running(body.model, jnp.array([0.1, 0.0]), jnp.array([0.5]), jnp.zeros((), jnp.int32))
    np.testing.assert_allclose([terms["left"], terms["right"], terms["effort"]], [0.0, 0.16, 0.005], rtol=1e-5)


BESIDE = {"east": task(cost={"right": 1.0}), "home": task(goal=tiny.observation()), "still": task(goal={"velocity": [0.0]})}


@pytest.mark.parametrize("member", [pytest.param(m, marks=[pytest.mark.slow] * m.variant, id=m.name) for m in MEMBERS])
def test_a_task_decides_as_if_it_were_alone(member):
    spec = tiny.DISCRETE if member.discrete else tiny.SPEC
    model, observation = worldmodels.JEPA(spec, **SMALL), tiny.observation(0.8, 0.3)
    planner = replace(member.make(3), iterations=1)  # more might make up for a difference
    west = task(cost={"left": 2.0} if member.discrete else {"left": 2.0, "effort": 0.01}, planner=planner)
    beside = {name: replace(other, planner=planner) for name, other in BESIDE.items()}
    bodies = [mpc.Configurator(model, costs=COSTS, west=west, **others) for others in ({}, beside)]
    agents = [body.agent("west") for body in bodies]
    alone, among = (agent.act(agent.reset(observation), observation, key=jax.random.key(0))[0] for agent in agents)
    np.testing.assert_allclose(among.plan.actions, alone.plan.actions, atol=1e-4)
    np.testing.assert_allclose(among.cost, alone.cost, rtol=1e-5)


def test_ilqr_plans_by_the_residuals_of_its_task_whatever_stands_beside():
    body = engine(west=task(cost={"left": 2.0, "effort": 0.01}, planner=planners.ILQR(horizon=3)), **BESIDE)
    at = body.model, jnp.array([0.5, 0.0]), jnp.array([0.5]), jnp.zeros((), jnp.int32)
    np.testing.assert_allclose(body.cost("west").residuals(*at), [2**0.5, 0.1], rtol=1e-5)
    assert set(body.cost("west").parts) == {"left", "effort"} and body.cost("east").residuals(*at) is None


def test_of_a_goal_only_what_it_names_matters_by_the_data_s_deviation():
    model = true_model()
    model.normaliser.scale[...] = jnp.array([2.0, 0.5])
    model.normaliser.low[...], model.normaliser.high[...] = -jnp.ones(2), jnp.ones(2)
    goals = {"there": {"position": [0.5]}, "still": {"velocity": [0.0]}, "both": {"position": [0.5], "velocity": [0.0]}}
    body = mpc.Configurator(model, **{name: task(goal=goal, goal_weight=3.0) for name, goal in goals.items()})
    ends = {name: float(body.cost(name).terminal(model, jnp.array([1.5, 1.0]), 0)) for name in goals}
    assert ends == pytest.approx({"there": 3 * 0.5 * 0.5**2, "still": 3 * 0.5 * 2.0**2, "both": 3.0})
    assert len({jax.tree.structure(body.cost(name)) for name in goals}) == 1
    with pytest.warns(UserWarning, match=r"'far'.*4\.0 standard deviations"):
        body = mpc.Configurator(model, far=task(goal={"position": [9.0]}))
    assert float(body.cost("far").terminal(model, jnp.array([1.0, 7.0]), 0)) == 0.0
    with pytest.raises(ConfigurationError, match=r"goal is \['camera'\], some .* reads out, \['velocity'\], or all of"):
        mpc.Configurator(
            worldmodels.JEPA(tiny.BOTH, **SMALL), seen=task(goal={"camera": tiny.observation(spec=tiny.BOTH)["camera"]})
        )


def test_a_goal_beyond_the_data_is_brought_back_and_said_so():
    body = engine(home=task(goal=tiny.observation(1.0, 0.0)))
    np.testing.assert_allclose(body.cost("home").terminal(body.model, jnp.array([1.0, 0.0]), 0), 0.0, atol=1e-6)
    with pytest.warns(UserWarning, match=r"'far'.*8\.0 standard deviations"):
        body = engine(far=task(goal=tiny.observation(9.0, 0.0)))
    np.testing.assert_allclose(body.cost("far").terminal(body.model, jnp.array([1.0, 0.0]), 0), 0.0, atol=1e-5)


def test_modes_need_what_they_are_made_of():
    body = engine(west=task(cost={"left": 1.0}, mode="react"), both=task(cost={"left": 1.0}, mode="mixed"))
    with pytest.raises(ConfigurationError, match="needs a critic and a policy"):
        body.agent("west")
    for name in ("west", "both"):
        body.solve(name, *solution())
    assert isinstance(body.agent("west"), mpc.PolicyAgent)
    assert isinstance(body.agent("both"), mpc.MixedAgent)


def modes():
    """One task in every mode and by other planners and horizons."""
    west = {"cost": {"left": 2.0}}
    body = engine(
        plan=task(**west, discount=0.9),
        far=task(**west, planner=planners.CEM(horizon=12, samples=32, iterations=3, elites=8)),
        icem=task(**west, planner=planners.ICEM(horizon=8, samples=32, iterations=3, elites=8, keep=4)),
        react=task(**west, mode="react"),
        mixed=task(**west, mode="mixed", discount=0.9),
    )
    for name in ("react", "mixed"):
        body.solve(name, *solution())
    return body


@pytest.mark.slow
def test_an_episode_goes_on_through_all_modes_and_horizons_and_compiles_each_once(caplog):
    body = modes()
    assert body.agent("plan") is body.agent("plan")
    position, velocity = 0.0, 0.0
    state = body.agent("plan").reset(tiny.observation(position, velocity))
    ways = ["plan", "far", "react", "mixed", "plan", "mixed", "icem", "mixed", "react", "plan", "react", "far", "plan"]
    for turn in range(2):
        caplog.clear()
        with jax.log_compiles():
            for step, name in enumerate([way for way in ways for _ in range(3)]):
                agent, state = body.switch(name, state)
                decision, state = agent.act(state, tiny.observation(position, velocity), key=jax.random.key(step))
                position, velocity = tiny.step(position, velocity, float(decision.action[0]))
        compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
        assert bool(compiled) == (turn == 0), compiled
    assert int(state.decisions) == 2 * 3 * len(ways)
    for step in range(20):
        decision, state = body.agent("plan").act(state, tiny.observation(position, velocity), key=jax.random.key(step))
        position, velocity = tiny.step(position, velocity, float(decision.action[0]))
    assert abs(position + 0.5) < 0.2


def test_a_search_is_handed_over_where_it_fits_and_begins_again_elsewhere():
    body, observation = modes(), tiny.observation(0.0, 0.0)
    plan = body.agent("plan")
    cold = plan.reset(observation)
    _, warm = plan.act(cold, observation, key=jax.random.key(0))
    same = lambda one, other: all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))  # noqa: E731
    assert not same(warm.search, cold.search)
    assert body.switch("plan", warm)[1].search is warm.search
    agent, mixed = body.switch("mixed", warm)
    assert isinstance(agent, mpc.MixedAgent) and mixed.agent.search is warm.search
    assert (float(mixed.waited), int(mixed.decided), int(mixed.agent.decisions)) == (0.0, 0, 1)
    assert body.switch("plan", mixed)[1].search is warm.search
    late = replace(mixed, waited=jnp.ones(()))
    assert same(body.switch("plan", late)[1].search, cold.search)
    assert body.switch("mixed", late)[1].agent.search is warm.search
    _, reacting = body.switch("react", late)
    assert reacting.search == () and int(reacting.decisions) == 1
    np.testing.assert_array_equal(reacting.previous_action, warm.previous_action)
    assert same(body.switch("plan", reacting)[1].search, cold.search)
    far, state = body.switch("far", warm)
    assert same(state.search, far.reset(observation).search)
    with pytest.raises(ConfigurationError, match=r"state=\(\): expected what reset or act"):
        body.switch("plan", ())


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("mixed", "plan", "state=MixedState: expected AgentState.*switch"),
        ("plan", "mixed", "state=AgentState: expected MixedState.*switch"),
        ("mixed", "react", "state=MixedState: expected AgentState.*switch"),
        ("react", "plan", "state.search is not one of CEM with horizon=8.*switch"),
        ("plan", "far", "state.search is not one of CEM with horizon=12.*switch"),
        ("plan", "icem", "state.search is not one of ICEM.*switch"),
    ],
)
def test_a_state_that_is_not_handed_over_is_refused(before, after, named):
    body, observation = modes(), tiny.observation(0.0, 0.0)
    state = body.agent(before).reset(observation)
    with pytest.raises(MPCError, match=named):
        body.agent(after).act(state, observation, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mpc.Configurator(true_model()), "at least one task"),
        (lambda: engine(west=task(cost={"lefd": 1.0})), "Did you mean left"),
        (lambda: planners.CEM(horizon="far"), "horizon='far': expected an integer, at least 1"),
        (lambda: task(cost={"left": 1.0}, planner=planners.CEM), "expected a planner such as"),
        (lambda: task(cost={"left": 1.0}, planner=planners.CEM(horizon=2.5)), "horizon=2.5: expected an integer, at least 1"),
        (lambda: mpc.Configurator(true_model(), west=3), "task west=3: expected an mpc.Task"),
        (lambda: mpc.Configurator(true_model(), costs=[1], west=task(cost={"effort": 1.0})), r"costs=\[1\]: expected"),
        (lambda: with_own(left=3), r"costs\['left'\]=3: expected an mpc cost"),
        (lambda: with_own(goal=COSTS["left"]), r"costs\['goal'\]: this is the name of the distance to Task\(goal"),
        (lambda: with_own(effort=COSTS["left"]), r"costs\['effort'\]: this is the name of mpc's own effort"),
        (lambda: with_own(**{"walker.run": COSTS["left"]}), r"costs\['walker.run'\]: this is the name of mpc's own"),
        (lambda: engine(west=task(cost={"goal": 1.0})), "no cost named 'goal'"),
        (lambda: engine(west=task(goal={"positon": [0.1]})), r"task 'west': its goal does not suit the model.*'position'"),
        (lambda: engine(west=task(goal={"position": [0.1, 2]})), r"task 'west': its goal does not suit the model.*shape"),
        (lambda: engine(west=task(cost={"left": 1.0}, action_repeat=4)), "task 'west': action_repeat=4: expected 2"),
        (
            lambda: engine(west=task(cost={"left": 1.0}, solution="nowhere")),
            "task 'west': solution='nowhere': .*no such folder",
        ),
        (lambda: with_own(**{"goal, in part": COSTS["left"]}), r"costs\['goal, in part'\]: this is the name of the distance"),
        (lambda: engine(west=task(goal={"position": [0.1, 2], "velocity": [0.1]})), r"task 'west': its goal.*shape"),
        (lambda: engine(west=task(cost={"walker.walk": 1.0})), "height"),
        (lambda: with_own(left=mpc.reach("positon", 0.0)), "cost 'left': the cost reads 'positon'.*Did you mean position"),
        (lambda: with_own(left=COSTS["left"], odd=lambda r, a, s: {}["y"]), "cost 'odd': the cost raised KeyError: 'y'"),
        (lambda: with_own(home=mpc.goal({"position": [1.0]})), "cost 'home': its goal does not suit the model.*velocity"),
        (lambda: engine().agent("west-east"), "no task 'west-east'"),
        (lambda: mpc.Task({"left": 1.0}, mode="dream"), "mode='dream'"),
        (lambda: mpc.Task({"left": 1.0}, discount=0.0), "discount=0"),
        (lambda: mpc.MixedAgent(engine().agent("west")), "policy and a critic"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, named):
    with pytest.raises((ConfigurationError, CostError, MPCError, planners.SettingError), match=named):
        make()


def test_a_cost_for_another_body_is_refused():
    model = true_model(replace(tiny.SPEC, environment="dm_control/cheetah-run-v0"))
    with pytest.raises(ConfigurationError, match=r"body walker.*cheetah-run"):
        mpc.Configurator(model, walk=mpc.Task({"walker.walk": 1.0}))


def acts_once(body, name, observation):
    agent = body.agent(name)
    decision, _ = agent.act(agent.reset(observation), observation, key=jax.random.key(0))
    return np.asarray(decision.action)


@pytest.mark.parametrize("spec", [tiny.PICTURES, tiny.BOTH])
def test_a_model_of_pictures_is_driven_by_goals_and_by_costs_of_its_own(spec):
    model = worldmodels.JEPA(spec, **SMALL)
    home, seen = tiny.observation(0.3, 0.1, spec), tiny.observation(0.0, 0.0, spec)
    body = mpc.Configurator(model, costs={"learned": mpc.LearnedCost()}, home=task(goal=home), paid=task(cost={"learned": 1.0}))
    latent = model.start(home)
    np.testing.assert_allclose(body.cost("home").terminal(model, latent, 0), 0.0, atol=1e-6)
    assert float(body.cost("home").terminal(model, model.start(seen), 0)) > 0
    assert np.isfinite(acts_once(body, "home", seen)).all() and np.isfinite(acts_once(body, "paid", seen)).all()
    if spec is tiny.BOTH:
        model.normaliser.low[...], model.normaliser.high[...] = -jnp.ones(1), jnp.ones(1)
        with pytest.warns(UserWarning, match=r"8\.0 standard deviations"):
            body = mpc.Configurator(model, home=task(goal=tiny.observation(0.3, 9.0, spec)))
        nearest = model.start({"camera": home["camera"], "velocity": np.array([1.0])})
        np.testing.assert_allclose(body.cost("home").terminal(model, nearest, 0), 0.0, atol=1e-6)
    with pytest.raises(CostError, match="reads 'position' but the model's readouts are"):
        mpc.Configurator(model, west=task(cost={"left": 1.0}), costs=COSTS)


def simulated():
    pytest.importorskip("dm_control")
    environment = mpc.make("dm_control/cartpole-balance-v0", action_repeat=4, privileged=True)
    return mpc.simulator(environment), environment.reset(0)


@pytest.mark.slow
def test_a_simulator_is_planned_on():
    model, observation = simulated()
    planner = planners.CEM(horizon=2, samples=8, iterations=1, elites=2)
    tasks = {
        "balance": mpc.Task({"cartpole.balance": 1.0}, planner=planner),
        "home": mpc.Task(goal=observation, planner=planner),
    }
    body = mpc.Configurator(model, **tasks)
    for name in tasks:
        assert np.abs(acts_once(body, name, observation)).max() <= 1.0
    with pytest.raises(ConfigurationError, match=r"solve\('home'\).*no use for a critic"):
        body.solve("home", *solution())


def test_a_simulator_neither_reacts_nor_mixes():
    with pytest.raises(ConfigurationError, match=r"task 'balance': mode='mixed' on a simulator"):
        mpc.Configurator(simulated()[0], balance=mpc.Task({"cartpole.balance": 1.0}, mode="mixed"))


def test_what_no_task_can_be_set_up_on_is_refused():
    below = worldmodels.JEPA(tiny.SPEC, **SMALL)
    above = worldmodels.JEPA(
        worldmodels.Spec("tiny/above", (("below", (8,)),), worldmodels.ContinuousAction((), ())),
        **{**SMALL, "latent": 4, "noise": "quantised", "noise_size": 3, "actions": "latent"},
    )
    with pytest.raises(ConfigurationError, match=r"model=Abstraction.*HierarchicalAgent"):
        mpc.Configurator(worldmodels.Abstraction(below, above, 5), rest=task(cost={"effort": 1.0}))
    for wrong in ("runs/model", worldmodels.JEPA, None):
        with pytest.raises(ConfigurationError, match=r"model=.*: expected a world model"):
            mpc.Configurator(wrong, rest=task(cost={"effort": 1.0}))


def test_the_planner_suits_the_actions_or_is_refused():
    buttons, sliders = (worldmodels.JEPA(spec, latent=8, hidden=8, head=8, expander=8) for spec in (tiny.DISCRETE, tiny.SPEC))
    wanted = mpc.Task({"left": 1.0})
    chosen = [mpc.Configurator(model, costs=COSTS, west=wanted).agent("west").planner for model in (buttons, sliders)]
    assert [type(planner) for planner in chosen] == [planners.CategoricalCEM, planners.ICEM]
    with pytest.raises(ConfigurationError, match=r"task 'west'.*iscrete"):
        mpc.Configurator(buttons, costs=COSTS, west=replace(wanted, planner=PLANNER))
