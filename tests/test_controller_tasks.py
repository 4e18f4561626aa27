"""A controller that becomes the agent of another task in mid-episode."""

import threading
from dataclasses import replace

import jax.numpy as jnp
import pytest

import mpc
import planners
from mpc.controller import ControllerSettings, Rung, SimulatedLatency, programs
from mpc.errors import ControllerError, CostError
from tests import tiny
from tests.test_agent import true_model
from tests.test_configurator import PLANNER, engine, solution, task
from tests.test_controller_modes import Homing, Rightwards

FAR = planners.CEM(horizon=12, samples=32, iterations=3, elites=8)
WEST = {"cost": {"left": 2.0}}
PROGRAMS = [value for value in vars(programs).values() if hasattr(value, "_cache_size")]


def compiled():
    return [program._cache_size() for program in PROGRAMS]


def controller(agent, recorder=None, **settings):
    return mpc.Controller(agent, ControllerSettings(period=0.1, **settings), recorder=recorder)


def drive(made, steps, position):
    """Where the tiny world ends, and the statuses seen."""
    velocity, statuses = 0.0, set()
    for _ in range(steps):
        decision = made.step(tiny.observation(position, velocity), 0.1 * made.decisions)
        statuses.add(decision.status)
        position, velocity = tiny.step(position, velocity, float(decision.action[0]))
    return position, statuses


def test_tasks_change_in_mid_episode_and_nothing_compiles():
    body = engine()
    made = controller(body.agent("west"))
    made.warm_up(1)
    position, _ = drive(made, 50, 0.0)
    assert abs(position + 0.5) < 0.15
    before, memory = compiled(), made.memory
    for name in ("east", "west", "east"):
        made.configure(body.agent(name))
        assert made.memory is memory  # belief, search, and what was sent
    position, statuses = drive(made, 50, position)
    assert abs(position - 0.5) < 0.15 and {status.rung for status in statuses} == {Rung.PLAN}
    assert compiled() == before


def modes():
    """One task by other planners and in every mode; left of the middle the mixed agent reacts."""
    longer = replace(PLANNER, iterations=4)
    body = engine(plan=task(**WEST), longer=task(**WEST, planner=longer), far=task(**WEST, planner=FAR))
    policy, critic = Rightwards(jnp.full(1, 0.5)), Homing(jnp.full(1, 0.5))
    solved = replace(body.agent("plan"), critic=critic, policy=policy)
    react, mixed = mpc.PolicyAgent(body.model, policy), mpc.MixedAgent(solved, 0.1)
    return {name: body.agent(name) for name in body.tasks} | {"react": react, "solved": solved, "mixed": mixed}


def test_planners_and_modes_change_too_and_each_compiles_once_where_it_is_configured():
    agents = modes()
    made = controller(agents["plan"])
    made.warm_up(1)
    for turn in range(2):
        for name in ("plan", "longer", "far", "react", "solved", "mixed", "plan"):
            memory, before = made.memory, compiled()
            made.configure(agents[name])
            assert made.memory.latent is memory.latent and made.tolerance == (0.1 if name == "mixed" else None)
            assert made.memory.warm is (None if name in ("far", "react") else memory.warm)
            assert turn == 0 or compiled() == before
            before, rung = compiled(), Rung.POLICY if name in ("react", "mixed") else Rung.PLAN
            assert drive(made, 2, -1.0)[1] == {(rung, ())}, name
            assert compiled() == before, name


def test_another_agent_is_become_while_the_loop_goes_on():
    agents = modes()
    made, statuses, done = controller(agents["plan"]), set(), threading.Event()
    made.warm_up(1)
    for name in agents:
        made.configure(agents[name])

    def loop():
        while not done.is_set():
            statuses.update(drive(made, 5, -1.0)[1])

    looping = threading.Thread(target=loop)
    looping.start()
    for name in 5 * list(agents):
        made.configure(agents[name])
    done.set()
    looping.join()
    assert statuses <= {(Rung.PLAN, ()), (Rung.POLICY, ())}


def test_the_critic_of_another_task_judges_no_learned_cost():
    model = true_model()
    model.cost_normaliser.scale[...] = jnp.full(1, 2.0)  # as if it had learned from rewards
    critic, policy = solution()
    body = mpc.Configurator(model, walk=task(cost={"effort": 1.0}))
    body.solve("walk", critic, policy)
    made = controller(body.agent("walk"))
    made.configure(mpc.LearnedCost())
    assert made.agent.critic is None

    learned = mpc.PlanningAgent(model, mpc.LearnedCost(), PLANNER, critic=critic, policy=policy)
    made = controller(learned)
    made.configure(mpc.effort())
    assert made.agent.critic is None
    made.configure(mpc.LearnedCost())
    assert made.agent.critic is critic
    made.configure(body.agent("walk"))
    made.configure(mpc.LearnedCost())
    assert made.agent.critic is None  # it spoke of another policy


def test_an_agent_that_cannot_go_on_is_refused_by_name(tmp_path):
    agents, other = modes(), engine()
    made = controller(agents["plan"], fallbacks=(Rung.SHIFTED,))
    before = made.flat
    for agent, named in (
        (other.agent("west"), "configure.agent.: it is on another model.*controller.agent.model"),
        (agents["mixed"], "fallbacks=.*a mixed agent acts by its policy"),
    ):
        with pytest.raises(ControllerError, match=named):
            made.configure(agent)
    with pytest.raises(CostError, match="reads 'height'"):
        made.configure(replace(agents["plan"], cost=mpc.cost(lambda readout, action, step: readout["height"])))
    made = controller(agents["plan"], asynchronous=True, simulated=SimulatedLatency())
    with pytest.raises(ControllerError, match="asynchronous=True, and the planning thread keeps its planner"):
        made.configure(agents["far"])
    batch = mpc.BatchController(agents["plan"], ControllerSettings(period=0.1), robots=2)
    with pytest.raises(ControllerError, match="BatchController: PlanningAgent given, expected a cost"):
        batch.configure(agents["far"])
    made = controller(agents["plan"], deadline=0.1)
    made._rehearse = lambda repeats: [0.1] * 3
    assert before is not None
    with pytest.raises(ControllerError, match=r"deadline=0\.1 s: one slice of CEM takes 0\.3"):
        made.configure(agents["far"])
    assert made.agent is agents["plan"]


@pytest.mark.usefixtures("patient")
def test_a_log_holds_the_tasks_of_one_agent_and_replays_them(tmp_path):
    body = engine(west=task(**WEST), east=task(cost={"right": 1.0}), far=task(**WEST, planner=FAR))
    made = controller(body.agent("west"), mpc.FlightRecorder(tmp_path / "log"))
    with pytest.raises(ControllerError, match="the flight recorder's log holds one agent"):
        made.configure(body.agent("far"))
    for name in ("west", "east", "west"):
        made.configure(body.agent(name))
        drive(made, 2, 0.0)
    made.close()
    replays = list(mpc.Log(tmp_path / "log", agent=body.agent("east")).replays())
    assert [replay.identical for replay in replays] == [True] * 6
