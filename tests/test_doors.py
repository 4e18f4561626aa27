"""The maze with a door that is open by chance: what is counted of it, what is planned under chance and on the likeliest, the door itself."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planners
import worldmodels
from benchmarks import door_rooms, doors, mazes
from benchmarks.door_rooms import MovesToGoal, Rooms, count_rooms, likeliest, moves_to, nearest
from planners import pytree

# A ring of 6 by 3 rooms, without the middle row's inner ones; the door is the last but one of the upper row.
MIDDLES = np.array([(x, y) for y in (0.0, 1.0, 2.0) for x in range(6) if y != 1 or x in (0, 5)], np.float32)
DOOR, START, GOAL = nearest(MIDDLES, np.array([[4.0, 2.0], [0.0, 2.0], [5.0, 2.0]]))
BEFORE = nearest(MIDDLES, np.array([3.0, 2.0]))
CLOSED, NOTHING, OPEN = range(3)
SPEC = worldmodels.Spec(
    "tiny/ring", (("door", (1,)), ("observation", (4,))), worldmodels.ContinuousAction((-1.0,) * 2, (1.0,) * 2), 1, 0.1
)


@pytree
class Told:
    """A model whose latent is what is observed: the door first."""

    @property
    def spec(self):
        return SPEC

    def start(self, observation):
        return jnp.concatenate([observation["door"], observation["observation"]])

    def readout(self, latent):
        return {"door": latent[:1], "observation": latent[1:]}


def walk(rooms: list[int], known: list[int]) -> worldmodels.Episode:
    """From room to room, seeing this of the door."""
    seen = {
        "door": np.array(known, np.float32)[:, None] - 1,
        "observation": np.pad(MIDDLES[rooms], ((0, 0), (0, 2))).astype(np.float32),
    }
    return worldmodels.Episode(seen, np.zeros((len(rooms) - 1, 2), np.float32), None, False, True, 0)


def ring(chance: float) -> Rooms:
    """What would be counted of the ring in the long run."""
    beside = nearest(MIDDLES, MIDDLES[:, None] + door_rooms.SIDES)
    near = np.abs(MIDDLES[beside] - MIDDLES[:, None] - door_rooms.SIDES).max(-1) < 0.1
    ways = np.repeat(near[:, None], 3, 1)
    ways[:, :OPEN] &= (beside != DOOR)[:, None]
    odds = np.zeros((len(MIDDLES), 3, 4, 3))
    odds[:, CLOSED, :, CLOSED], odds[:, OPEN, :, OPEN], odds[:, NOTHING, :, NOTHING] = 1, 1, 1
    shown = np.isin(beside, [BEFORE, GOAL])  # the rooms beside the door
    odds[:, NOTHING][shown] = [1 - chance, 0, chance]
    parts = (jnp.asarray(part, jnp.float32) for part in (MIDDLES, odds))
    middles, odds = parts
    return Rooms(Told(), middles, jnp.asarray(beside), jnp.asarray(ways), odds, 4)


def test_rooms_are_counted_as_they_were_gone_through_and_seen():
    east, two = 0, [START, START + 1]
    watched = [walk(two, [NOTHING, OPEN])] * 3 + [walk(two, [NOTHING, CLOSED])] + [walk(two, [OPEN, OPEN])] * 2
    rooms = count_rooms(Told(), watched, MIDDLES, 4)
    np.testing.assert_array_equal(rooms.odds[START, NOTHING, east], [0.25, 0.0, 0.75])
    assert bool(rooms.ways[START, NOTHING, east]) and int(rooms.ways.sum()) == 1  # twice is not often enough
    latent = Told().start({"door": jnp.ones(1), "observation": jnp.array([0.2, 1.9, 0.0, 0.0])})
    np.testing.assert_allclose(rooms.lift(latent), [0.2, 1.9, 1.0])
    start = jnp.array([0.2, 1.9, 0.0])
    for noise, known in ((0.1, -1.0), (0.24, -1.0), (0.26, 1.0), (0.9, 1.0)):
        np.testing.assert_allclose(rooms.predict(start, jnp.asarray(east), jnp.array([noise])), [1.0, 2.0, known])
    np.testing.assert_allclose(rooms.predict(start, jnp.asarray(2), jnp.array([0.5])), [0.0, 2.0, 0.0])  # no way west
    for known, noise in ((-1.0, 0.125), (1.0, 0.625)):
        after = {"door": jnp.array([known]), "observation": jnp.array([1.0, 2.0, 0.0, 0.0])}
        np.testing.assert_allclose(rooms.infer_noise(start, jnp.asarray(east), after), [noise])
    drawn = np.asarray(rooms.draw_noise(8, 3, key=jax.random.key(0)))
    np.testing.assert_allclose(np.sort(drawn[..., 0], 0), np.repeat((np.arange(8) + 0.5)[:, None] / 8, 3, 1))


@pytest.mark.parametrize(("chance", "expected", "first"), [(0.55, 9.0, 3), (0.9, 0.9 * 5 + 0.1 * 15, 0)])
def test_under_chance_the_moves_are_fewest_on_average_and_the_likeliest_is_hoped_for(chance, expected, first):
    """Five rooms through the door, nine round below, fifteen when it was closed."""
    under, hoping = ring(chance), likeliest(ring(chance))
    assert moves_to(under, GOAL)[START, NOTHING] == pytest.approx(expected, rel=1e-5)
    assert moves_to(under, GOAL)[BEFORE, CLOSED] == 12 and moves_to(hoping, GOAL)[START, NOTHING] == 5
    for rooms, move in ((under, first), (hoping, 0)):
        cost = MovesToGoal(jnp.asarray(GOAL), jnp.asarray(moves_to(rooms, GOAL), jnp.float32))
        problem = planners.Problem(
            rooms.predict,
            lambda latent, action, step, cost=cost, rooms=rooms: cost.running(rooms, latent, action, step)["move"],
            planners.Discrete(4),
            lambda latent, cost=cost, rooms=rooms: cost.terminal(rooms, latent, 0),
            noise=rooms.draw_noise(20, 4, key=jax.random.key(1)),
        )
        planner = planners.CategoricalCEM(4, samples=256, iterations=4, elites=20)
        start = jnp.array([0.0, 2.0, 0.0])
        plan, _ = planners.plan(planner, problem, start, planner.init(problem), key=jax.random.key(0))
        assert int(plan.actions[0]) == move


def test_a_door_is_seen_from_beside_it_alone_and_holds_when_it_is_closed():
    pytest.importorskip("gymnasium_robotics")
    made = doors.environment(doors.DoorSettings())
    outcomes = {}
    for seed in range(100):
        seen = made.reset(seed)
        x, y = seen["observation"][:2]
        if doors.is_open(made) in outcomes or y < 0.5 or x > 0:
            continue
        assert seen["door"] == 0
        for _ in range(60):
            pull = np.clip(3 * (1 - seen["observation"][1]), -1, 1)
            seen = made.step(np.array([1.0, pull], np.float32)).observation
        outcomes[doors.is_open(made)] = (float(seen["observation"][0]), float(seen["door"][0]))
        if len(outcomes) == 2:
            break
    made.close()
    assert outcomes[False][0] < 1.5 and outcomes[False][1] == -1  # the wall's face is at 1.5 m
    assert outcomes[True][0] > 2.5 and outcomes[True][1] == 1


@pytest.mark.slow
def test_every_method_plays_and_both_levels_are_learned_once(monkeypatch, tmp_path):
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.setattr(mazes, "RESULTS", tmp_path / "mazes.jsonl")
    monkeypatch.setattr(doors, "RUNS", tmp_path)
    settings = replace(doors.DoorSettings(), frames=4_000, updates=4, batch=8, latent=8, hidden=16, samples=16, iterations=1)
    one = doors.OneLevel(horizon=4, samples=16, iterations=1, distance_updates=4, distance_hidden=8)
    lines = doors.bench_doors([], [1], 1, resume=False, settings=settings, one=one)
    assert [line["method"] for line in lines] == list(doors.METHODS) and len(lines[0]["open"]) == 1
    assert lines[-1]["success_rate"] == 1.0  # the simulator is told the way
    assert len(list(tmp_path.glob("PointMaze_Door-v0-1-*/model/manifest.json"))) == 1
    assert doors.bench_doors([], [1], 1, resume=True, settings=settings, one=one) == []
