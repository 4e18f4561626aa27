"""A cost of your own, on a model that never saw a reward: cart and pole as a crane, its load carried to a place, hanging still.

python examples/own_cost.py
"""

import jax.numpy as jnp

import mpc
import planners
import worldmodels


def hanging(readout, action, step):
    """Residuals: zero when the load hangs still. Readouts are named and scaled as the environment observes them."""
    sine = readout["position"][2]
    return jnp.stack([sine, 0.1 * readout["velocity"][1]])


def main(frames: int = 6_000, updates: int = 2_000, decisions: int = 150) -> dict[str, float]:
    """Where the cart ends, in metres, for each place asked for; the model is trained once, without reward."""
    environment = mpc.make("dm_control/cartpole-swingup-v0", action_repeat=4)
    episodes = mpc.collect(environment, frames=frames, agent=mpc.PinkAgent(environment.spec))
    model = worldmodels.train(worldmodels.JEPA(environment.spec), episodes, updates=updates)

    cost = mpc.combine(
        hanging=(0.2, mpc.residual(hanging)),
        place=(1.0, mpc.reach("position", 0.0, index=0)),
        on_the_rail=(10.0, mpc.within("position", -1.7, 1.7, index=0)),
        effort=(0.01, mpc.effort()),
    )
    planner = planners.ICEM(horizon=25, samples=256, iterations=3, elites=32, keep=8)
    ends = {}
    for place in (-0.5, 0.5):  # a new target is data: nothing compiles for the second one
        there = mpc.combine(**{**terms(cost), "place": (1.0, cost.parts["place"].changed(target=place))})
        agent = mpc.PlanningAgent(model, there, planner)
        episode = mpc.collect(environment, frames=decisions * 4, seed=1_000, agent=agent, explore=False)[0]
        ends[f"{place:+.1f}"] = float(episode.observations["position"][-1, 0])
        print(f"asked for {place:+.1f} m: the cart stands at {ends[f'{place:+.1f}']:+.2f} m, return {episode.total_return:.1f}")
    return ends


def terms(cost):
    """A combined cost as the arguments of `mpc.combine`."""
    return {name: (float(cost.weights[name]), part) for name, part in cost.parts.items()}


if __name__ == "__main__":
    main()
