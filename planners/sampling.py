"""What the sampling planners share: a Gaussian over action sequences, scored candidates, and their ranking."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planners.actions import Box
from planners.plan import Diagnostics, Incumbent, Plan, finite_or_inf
from planners.problem import Latent, Problem
from planners.pytree import pytree
from planners.warm_start import shift


@pytree
class SamplingState:
    """The warm start: where the last search ended."""

    mean: Float[Array, "H A"]
    elites: Float[Array, "K H A"]  # best first


@pytree
class SamplingSearch:
    """One decision's search. `scale` and the actions are in the problem's own units."""

    latent: Latent
    mean: Float[Array, "H A"]
    scale: Float[Array, "H A"]
    elites: Float[Array, "K H A"]
    weights: Float[Array, " K"]
    best: Incumbent
    diagnostics: Diagnostics
    iteration: Int[Array, ""]
    key: Array


def cold_start(box: Box, horizon: int, elites: int) -> SamplingState:
    """The middle of the box, everywhere."""
    mean = jnp.broadcast_to(box.middle, (horizon, *box.shape))
    return SamplingState(mean, jnp.broadcast_to(mean, (elites, *mean.shape)))


def begin(box: Box, latent: Latent, state: SamplingState, elapsed: Any, key: Array, *, spread: float, iterations: int) -> SamplingSearch:
    """A Gaussian of `spread` half-ranges around the shifted warm start."""
    elapsed = jnp.asarray(elapsed, jnp.float32)
    elites = jax.vmap(box.project)(jax.vmap(shift, in_axes=(0, None))(state.elites, elapsed))
    mean = box.project(shift(state.mean, elapsed))
    count = elites.shape[0]
    return SamplingSearch(
        latent=latent,
        mean=mean,
        scale=jnp.broadcast_to(spread * box.half_range, mean.shape),
        elites=elites,
        weights=jnp.full((count,), 1 / count, jnp.float32),
        best=Incumbent.unknown(elites[0]),
        diagnostics=no_diagnostics(iterations),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def no_diagnostics(iterations: int) -> Diagnostics:
    """NaN for every iteration still to come."""
    return Diagnostics(*(jnp.full((iterations,), jnp.nan, jnp.float32) for _ in Diagnostics._fields))


def record(diagnostics: Diagnostics, iteration: Array, best_cost: Array, spread: Array, effective_samples: Array) -> Diagnostics:
    """Diagnostics with this iteration's figures; iterations beyond the planner's own are not recorded."""
    values = Diagnostics(best_cost, spread, effective_samples)
    return Diagnostics(*(old.at[iteration].set(new, mode="drop") for old, new in zip(diagnostics, values, strict=True)))


def evaluate(problem: Problem, latent: Latent, actions: Float[Array, "N H A"]) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Cost over all futures under the problem's risk, and the worst violation; non-finite is +inf."""
    scores = problem.rollout(latent, actions, problem.futures(actions.shape[1]))
    return problem.risk(scores.cost), finite_or_inf(scores.violation).max(-1)


def best_first(cost: Float[Array, " N"], violation: Float[Array, " N"], count: int, *, constrained: bool) -> Int[Array, " K"]:
    """Indices of the `count` best: feasible before infeasible, then by violation, then by cost (Deb 2000)."""
    if constrained:
        return jnp.lexsort((cost, jnp.where(jnp.isfinite(cost), violation, jnp.inf)))[:count]
    return jax.lax.top_k(-cost, count)[1]


def refit(
    problem: Problem,
    search: SamplingSearch,
    candidates: Float[Array, "N H A"],
    *,
    elites: int,
    momentum: float,
    min_spread: Float[Array, " A"],
) -> SamplingSearch:
    """The cross-entropy step: score candidates, and move the Gaussian onto the elites (Rubinstein & Kroese 2004)."""
    cost, violation = evaluate(problem, search.latent, candidates)
    chosen = best_first(cost, violation, elites, constrained=problem.constraints is not None)
    elite = candidates[chosen]
    finite = jnp.isfinite(cost[chosen])
    weights = finite / jnp.maximum(finite.sum(), 1)
    mean = jnp.einsum("k,kha->ha", weights, elite)
    scale = jnp.sqrt(jnp.einsum("k,kha->ha", weights, (elite - mean) ** 2))
    usable = finite.any()
    mean = jnp.where(usable, momentum * search.mean + (1 - momentum) * mean, search.mean)
    scale = jnp.where(usable, jnp.maximum(momentum * search.scale + (1 - momentum) * scale, min_spread), search.scale)
    best = search.best.challenged(elite[0], cost[chosen[0]], violation[chosen[0]])
    kept = jnp.where(finite[:, None, None], elite, best.actions)[: search.elites.shape[0]]
    return SamplingSearch(
        latent=search.latent,
        mean=mean,
        scale=scale,
        elites=kept,
        weights=jnp.full_like(search.weights, 1 / kept.shape[0]),
        best=best,
        diagnostics=record(search.diagnostics, search.iteration, best.cost, scale.mean(), finite.sum().astype(jnp.float32)),
        iteration=search.iteration + 1,
        key=search.key,
    )


def finish(problem: Problem, search: SamplingSearch) -> tuple[Plan, SamplingState]:
    """The incumbent as a plan; the Gaussian and its elites as the next warm start, the incumbent first."""
    plan = make_plan(
        problem,
        search.latent,
        search.best,
        spread=search.scale,
        candidates=search.elites[:, 0],
        weights=search.weights,
        diagnostics=search.diagnostics,
    )
    elites = search.elites.at[0].set(search.best.actions)
    return plan, SamplingState(search.mean, elites)


def make_plan(
    problem: Problem, latent: Latent, best: Incumbent, *, spread: Array, candidates: Array, weights: Array, diagnostics: Diagnostics
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
        status=best.status(),
        candidates=candidates,
        weights=weights,
        diagnostics=diagnostics,
    )


@lru_cache(maxsize=64)
def _colouring(horizon: int, exponent: float) -> np.ndarray:
    frequency = np.fft.rfftfreq(horizon)
    frequency[0] = frequency[1] if horizon > 1 else 1.0
    amplitude = frequency ** (-exponent / 2)
    white = np.eye(horizon)
    coloured = np.fft.irfft(np.fft.rfft(white, axis=0) * amplitude[:, None], n=horizon, axis=0)
    return (coloured / np.sqrt((coloured**2).sum(1, keepdims=True))).astype(np.float32)


def coloured_noise(count: int, horizon: int, size: int, exponent: float, *, key: Array) -> Float[Array, "N H A"]:
    """Standard normal noise whose power falls as 1 / frequency^exponent along the horizon.

    0 is white, 1 pink, 2 brown; unit variance at every step (Timmer & König 1995; Pinneri et al. 2020, section 3.1).
    """
    white = jax.random.normal(key, (count, horizon, size))
    if exponent == 0:
        return white
    return jnp.einsum("th,nha->nta", _colouring(horizon, float(exponent)), white)
