"""CartPole-v1, whose reward is 1 whatever one does until the pole falls: only respecting the end of an episode solves it."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import planners

GRAVITY, CART, POLE, LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # as in Gymnasium; length is half the pole's
LIMITS = jnp.array([2.4, jnp.inf, 12 * jnp.pi / 180, jnp.inf])  # position, velocity, angle, angular velocity


def push(state, action, noise):
    """Barto, Sutton & Anderson 1983, by Euler's rule."""
    position, velocity, angle, spin = state
    force = jnp.where(action == 1, FORCE, -FORCE)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    thrust = (force + POLE * LENGTH * spin**2 * sine) / (CART + POLE)
    tilt = (GRAVITY * sine - cosine * thrust) / (LENGTH * (4 / 3 - POLE * cosine**2 / (CART + POLE)))
    slide = thrust - POLE * LENGTH * tilt * cosine / (CART + POLE)
    return jnp.stack([position + SECONDS * velocity, velocity + SECONDS * slide, angle + SECONDS * spin, spin + SECONDS * tilt])


def living(state, action, step):
    return -jnp.ones(())


def upright(state, action):
    return jnp.all(jnp.abs(push(state, action, None)) <= LIMITS).astype(jnp.float32)


PROBLEM = planners.Problem(push, living, planners.Discrete(2), continues=upright)  # type: ignore[arg-type]


def balanced(planner, steps: int) -> int:
    """Steps that the planner keeps Gymnasium's pole up, of `steps`."""
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=0)
    state = planner.init(PROBLEM)
    for step in range(steps):
        plan, state = planners.plan(planner, PROBLEM, jnp.asarray(observation), state, key=jax.random.key(step))
        following = push(jnp.asarray(observation), plan.actions[0], None)
        observation, _, terminated, _, _ = environment.step(int(plan.actions[0]))
        np.testing.assert_allclose(following, observation, rtol=1e-3, atol=1e-5)
        if terminated:
            return step + 1
    return steps


def test_the_pole_is_kept_up_for_a_whole_episode():
    assert balanced(planners.CategoricalCEM(40, samples=64, elites=8, iterations=2), 500) == 500


def test_who_ignores_the_end_lets_it_fall():
    blind = planners.Problem(push, living, planners.Discrete(2))  # type: ignore[arg-type]
    planner = planners.CategoricalCEM(40, samples=64, elites=8, iterations=2)
    plan, _ = planners.plan(planner, blind, jnp.zeros(4), planner.init(blind), key=jax.random.key(0))
    seeing = planners.plan(planner, PROBLEM, jnp.zeros(4), planner.init(PROBLEM), key=jax.random.key(0))[0]
    assert float(plan.cost) == -40  # every plan is as good as any other
    assert -PROBLEM.score(jnp.zeros(4), plan.actions, jnp.zeros((40, 0)))[0] < -seeing.cost
