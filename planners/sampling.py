"""What the sampling planners share: a Gaussian over action sequences, scored candidates, and their ranking."""

from dataclasses import replace
from numbers import Real
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planners import proposals
from planners.actions import Box, Discrete, require_box
from planners.errors import SettingError, is_whole, require_counts
from planners.noise import coloured_noise
from planners.parameterisation import Parameterisation
from planners.plan import Diagnostics, Incumbent, Plan, finite_or_inf
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.warm_start import shift


class Sampler(Protocol):
    """The settings that every sampling planner has."""

    @property
    def horizon(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def proposals(self) -> int: ...
    @property
    def parameterisation(self) -> Parameterisation: ...


@pytree
class SamplingState:
    """The warm start: where the last search ended."""

    mean: Float[Array, "H A"]
    elites: Float[Array, "K H A"]  # best first


@pytree
class SamplingSearch:
    """One decision's search, in the problem's own units. The Gaussian is over knots, elites and proposals are actions."""

    latent: Latent
    mean: Float[Array, "K A"]
    scale: Float[Array, "K A"]
    elites: Float[Array, "E H A"]  # best first
    weights: Float[Array, " E"]
    proposals: Float[Array, "P H A"]
    best: Incumbent
    diagnostics: Diagnostics
    iteration: Int[Array, ""]
    key: Array


def check(planner: Sampler, *, given: int, elites: int = 1) -> None:
    """`SettingError` unless counts are positive, elites are among the samples, and some are left beside the `given` plans."""
    require_counts(horizon=planner.horizon, iterations=planner.iterations, samples=planner.samples, elites=elites)
    if not isinstance(planner.parameterisation, Parameterisation):
        raise SettingError(
            f"parameterisation={planner.parameterisation!r}: expected planners.PER_STEP or planners.Knots(number)."
        )
    planner.parameterisation.count(planner.horizon)
    check_counts(planner.samples, elites, given, planner.proposals)


def check_counts(samples: int, elites: int, given: int, proposals: int) -> None:
    """`SettingError` unless the elites are among the samples, and some are left beside the given plans and the proposals."""
    if not is_whole(proposals) or proposals < 0:
        raise SettingError(f"proposals={proposals!r}: expected an integer, 0 or more.")
    if elites > samples:
        raise SettingError(f"elites={elites} with samples={samples}: expected elites <= samples.")
    if samples <= given + proposals:
        raise SettingError(f"samples={samples}: {given + proposals} of them are given plans; expected more than that.")


def check_spread(**spreads: float) -> None:
    """`SettingError` for the first spread that is not a positive number."""
    for name, value in spreads.items():
        if not isinstance(value, Real) or not 0 < value < float("inf"):
            raise SettingError(f"{name}={value!r}: expected a positive fraction of the box's half-range.")


def cold_start(planner: Sampler, problem: Problem, kept: int = 1) -> SamplingState:
    """The middle of the box, everywhere; `ActionSpaceError` where the problem has no box."""
    box = require_box(problem.actions, type(planner).__name__)
    mean = jnp.broadcast_to(box.middle, (planner.horizon, *box.shape))
    return SamplingState(mean, jnp.broadcast_to(mean, (kept, *mean.shape)))


def begin(
    planner: Sampler,
    problem: Problem,
    latent: Latent,
    state: SamplingState,
    elapsed: Any,
    key: Array,
    *,
    spread: float,
    elites: int = 1,
) -> SamplingSearch:
    """A Gaussian of `spread` half-ranges around the shifted warm start, and plans of the problem's policy."""
    box = require_box(problem.actions, type(planner).__name__)
    expected = (planner.horizon, *box.shape)
    if state.mean.shape != expected or state.elites.shape[0] > elites:
        raise SettingError(
            f"state holds {state.elites.shape[0]} plans of shape {state.mean.shape}: expected at most {elites} of {expected}. "
            f"Make it by this planner's own init."
        )
    elapsed = jnp.asarray(elapsed, jnp.float32)
    warm = jax.vmap(box.project)(jax.vmap(shift, in_axes=(0, None))(state.elites, elapsed))
    mean = planner.parameterisation.fit(box.project(shift(state.mean, elapsed)))
    copies = jnp.broadcast_to(warm[0], (elites - warm.shape[0], *warm.shape[1:]))
    key, proposal_key = jax.random.split(key)
    return SamplingSearch(
        latent=latent,
        mean=mean,
        scale=jnp.broadcast_to(spread * box.half_range, mean.shape),
        elites=jnp.concatenate([warm, copies]),
        weights=jnp.full((elites,), 1 / elites, jnp.float32),
        proposals=propose(problem, latent, planner.proposals, planner.horizon, key=proposal_key),
        best=Incumbent.unknown(warm[0]),
        diagnostics=no_diagnostics(planner.iterations),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def propose(problem: Problem, latent: Latent, count: int, horizon: int, *, key: Array) -> Array:
    """`count` plans of the problem's policy; `SettingError` where plans are asked for and there is no policy."""
    if count == 0:
        actions = problem.actions
        return jnp.zeros((0, horizon, *actions.shape), jnp.int32 if isinstance(actions, Discrete) else jnp.float32)
    if problem.proposal is None:
        raise SettingError(
            f"proposals={count}, but the problem has no proposal. Give it Problem(proposal=...), or set proposals=0."
        )
    return proposals.rollouts(problem, latent, count, horizon, key=key)


def candidates(
    planner: Sampler, problem: Problem, search: SamplingSearch, noise: Float[Array, "N K A"], *, reused: int = 0
) -> Float[Array, "N+2+P+reused H A"]:
    """The best plan so far, the `reused` first elites, the proposals, the mean, and the mean with `noise`; all inside the box."""
    box: Box = problem.actions  # type: ignore[assignment]
    knots = jnp.concatenate([search.mean[None], search.mean + search.scale * noise])
    fresh = planner.parameterisation.expand(knots, planner.horizon)
    plans = jnp.concatenate([search.best.actions[None], search.elites[:reused], search.proposals, fresh])
    return jax.vmap(box.project)(plans)


def evaluate(problem: Problem, latent: Latent, actions: Float[Array, "N H A"]) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Cost over all futures under the problem's risk, and the worst violation; both +inf where either is not finite."""
    scores = problem.rollout(latent, actions, problem.futures(actions.shape[1]))
    cost, violation = finite_or_inf(problem.risk(scores.cost)), finite_or_inf(scores.violation).max(-1)
    usable = jnp.isfinite(cost) & jnp.isfinite(violation)
    return jnp.where(usable, cost, jnp.inf), jnp.where(usable, violation, jnp.inf)


def best_first(cost: Float[Array, " N"], violation: Float[Array, " N"], count: int, *, constrained: bool) -> Int[Array, " K"]:
    """Indices of the `count` best: feasible before infeasible, then by violation, then by cost (Deb 2000)."""
    if constrained:
        return jnp.lexsort((cost, jnp.where(jnp.isfinite(cost), violation, jnp.inf)))[:count]
    return jax.lax.top_k(-cost, count)[1]


def select(
    problem: Problem, best: Incumbent, plans: Array, cost: Float[Array, " N"], violation: Float[Array, " N"], count: int
) -> tuple[Array, Float[Array, " E"], Incumbent]:
    """The `count` best plans, equal weights over the finite ones among them (all zero where none is), and the new incumbent.

    A plan of non-finite cost gives its place to the incumbent, at weight zero.
    """
    chosen = best_first(cost, violation, count, constrained=problem.constraints is not None)
    finite = jnp.isfinite(cost[chosen])
    best = best.challenged(plans[chosen[0]], cost[chosen[0]], violation[chosen[0]])
    elites = jnp.where(finite.reshape(-1, *[1] * (plans.ndim - 1)), plans[chosen], best.actions)
    return elites, finite / jnp.maximum(finite.sum(), 1), best


class Refitting(Sampler, Protocol):
    """The settings of planners that refit a Gaussian to elites."""

    @property
    def min_spread(self) -> float: ...
    @property
    def momentum(self) -> float: ...


def refit(
    planner: Refitting,
    problem: Problem,
    search: SamplingSearch,
    plans: Float[Array, "N H A"],
    cost: Float[Array, " N"],
    violation: Float[Array, " N"],
) -> SamplingSearch:
    """The cross-entropy step: move the Gaussian onto the elites of scored plans (Rubinstein & Kroese 2004)."""
    momentum, least = planner.momentum, floor(planner, problem)
    elites, weights, best = select(problem, search.best, plans, cost, violation, search.elites.shape[0])
    points = planner.parameterisation.fit(elites)
    mean = jnp.einsum("k,kha->ha", weights, points)
    scale = jnp.sqrt(jnp.einsum("k,kha->ha", weights, (points - mean) ** 2))
    usable = weights.sum() > 0
    mean = jnp.where(usable, momentum * search.mean + (1 - momentum) * mean, search.mean)
    scale = jnp.where(usable, jnp.maximum(momentum * search.scale + (1 - momentum) * scale, least), search.scale)
    return advance(search, mean, scale, elites, weights, best)


def floor(planner: Refitting, problem: Problem) -> Float[Array, " A"]:
    """The least spread, in the problem's units."""
    return planner.min_spread * problem.actions.half_range  # type: ignore[union-attr]


def narrowed(planner: Refitting, problem: Problem, search: SamplingSearch) -> Bool[Array, ""]:
    """Whether the spread has shrunk to its floor everywhere."""
    return (search.scale <= floor(planner, problem)).all()


def advance(
    search: SamplingSearch,
    mean: Array,
    scale: Array,
    elites: Array,
    weights: Float[Array, " E"],
    best: Incumbent,
    effective: Any = None,
) -> SamplingSearch:
    """The search after an iteration, its figures recorded; `effective` samples are 1 / Σ w² unless the planner knows better."""
    weight = weights.sum()
    effective = weight / jnp.maximum((weights**2).sum(), 1e-12) if effective is None else effective
    return replace(
        search,
        mean=mean,
        scale=scale,
        elites=elites,
        weights=jnp.where(weight > 0, weights, 1 / weights.shape[0]),
        best=best,
        diagnostics=record(search.diagnostics, search.iteration, best.cost, scale.mean(), effective),
        iteration=search.iteration + 1,
    )


def finish(
    planner: Sampler, problem: Problem, search: SamplingSearch, *, kept: int = 1, converged: Bool[Array, ""] | bool = False
) -> tuple[Plan, SamplingState]:
    """The incumbent, or the last mean if it is better, as a plan; the mean and `kept` elites as the next warm start."""
    box: Box = problem.actions  # type: ignore[assignment]
    mean = box.project(planner.parameterisation.expand(search.mean, planner.horizon))
    cost, violation = evaluate(problem, search.latent, mean[None])
    best = search.best.challenged(mean, cost[0], violation[0])
    plan = make_plan(
        problem,
        search.latent,
        best,
        spread=planner.parameterisation.expand_spread(search.scale, planner.horizon),
        candidates=search.elites[:, 0],
        weights=search.weights,
        diagnostics=search.diagnostics,
        converged=converged,
    )
    return plan, SamplingState(mean, jnp.concatenate([best.actions[None], search.elites[1:kept]]))


def make_plan(
    problem: Problem,
    latent: Latent,
    best: Incumbent,
    *,
    spread: Array,
    candidates: Array,
    weights: Array,
    diagnostics: Diagnostics,
    converged: Bool[Array, ""] | bool = False,
) -> Plan:
    """Unroll the incumbent once more for its latents and terms."""
    latents = problem.unroll(latent, best.actions, problem.futures(best.actions.shape[0])[0])
    return Plan(
        actions=best.actions,
        spread=spread,
        latents=latents,
        cost=best.cost,
        terms=problem.terms(latents, best.actions),
        violation=best.violation,
        status=best.status(converged),
        candidates=candidates,
        weights=weights,
        diagnostics=diagnostics,
    )


def no_diagnostics(iterations: int) -> Diagnostics:
    """NaN for every iteration still to come."""
    return Diagnostics(*(jnp.full((iterations,), jnp.nan, jnp.float32) for _ in Diagnostics._fields))


def record(
    diagnostics: Diagnostics, iteration: Array, best_cost: Array, spread: Array, effective_samples: Array
) -> Diagnostics:
    """Diagnostics with this iteration's figures; iterations beyond the planner's own are not recorded."""
    values = Diagnostics(best_cost, spread, effective_samples)
    return Diagnostics(*(old.at[iteration].set(new, mode="drop") for old, new in zip(diagnostics, values, strict=True)))


def fresh_noise(search: SamplingSearch, count: int, exponent: float = 0.0) -> Float[Array, "N K A"]:
    """This iteration's noise, the same for the same key however the search is sliced."""
    key = jax.random.fold_in(search.key, search.iteration)
    steps, size = search.mean.shape
    return coloured_noise(count, steps, size, exponent, key=key)
