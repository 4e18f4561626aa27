"""`sailplan train`: a world model from a dataset, or first from one without actions."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

import worldmodels
from benchmarks.progress_bar import Bar
from mpc.ranking import rank_plans
from worldmodels import manifest
from worldmodels.diagnostics import look, open_loop_score, trials_for
from worldmodels.objectives import reweighted
from worldmodels.selection import Best

LOOKS, AHEAD, WINDOWS = 10, 20, 256  # at the model along a run; steps predicted at each, from so many moments
Choice = Literal["open-loop", "plans"]
console = Console()


def train(
    out: Path,
    data: tyro.conf.Positional[Path | None] = None,
    action_free: Path | None = None,
    then: Path | None = None,
    updates: int = 5_000,
    latent: int = 64,
    hidden: int = 128,
    predictor: str = "residual",
    memory: str = "none",
    history: int = 4,
    noise: str = "none",
    noise_size: int = 2,
    members: int = 1,
    objective: str = "vicreg",
    weights: dict[str, float] = {},  # noqa: B006  (tyro shows it, nobody changes it)
    on_collapse: Literal["warn", "stop", "ignore"] = "warn",
    seed: int = 0,
    skip_bad: bool = False,
    stream: bool = False,
    validate: Path | None = None,
    choose_by: Choice = "open-loop",
) -> None:
    """Learn a world model from a dataset; or with --action-free DATA --then LABELLED first by watching.

    Args:
        out: the model's folder; an older model there is replaced once the new one is complete.
        data: a dataset's folder.
        action_free: a dataset whose actions are not looked at, in place of `data`; a latent variable stands for them.
        then: a dataset with actions, which may be small: what actions do is learned from it.
        updates: gradient steps; so many again with --then.
        latent: size of the representation.
        hidden: width of encoder and predictor.
        predictor: residual, gated or transformer.
        memory: none, stack or recurrent: for worlds that one observation does not show whole.
        history: observations in a stack, or training steps that a recurrent memory has to settle.
        noise: none, gaussian, sparse or quantised: a latent variable for what cannot be known; gaussian with --action-free.
        noise_size: its components, or codes.
        members: of an ensemble of predictors.
        objective: vicreg, barlow, sigreg, teacher, consistency, inverse, smooth, straight, infonce or reconstruction.
        weights: of its terms, such as `--weights variance 2 covariance 0.1`.
        on_collapse: what to do where the representation stops saying anything.
        seed: of initialisation and batches.
        skip_bad: leave damaged episodes out instead of stopping.
        stream: read windows from disk as they are needed, for data larger than memory.
        validate: a dataset of other episodes: of the models along the way, the best on them is kept instead of the last.
        choose_by: what makes the best: open-loop error, or the ranking of plans beside the true simulator.
    """
    if (data is None) == (action_free is None) or (action_free is None) != (then is None):
        raise worldmodels.DataError("expected a dataset's folder, or --action-free DATA with --then LABELLED.")
    manifest.check_replaceable(out, "model")
    chosen = worldmodels.preset(objective)
    settings = worldmodels.TrainingSettings(
        objective=reweighted(chosen.objective, weights), cost_gradient=chosen.cost_gradient, on_collapse=on_collapse
    )
    watching = action_free is not None
    parts = {"predictor": predictor, "memory": memory, "history": history, "members": members, "norm": chosen.norm}
    unknown = {"noise": "gaussian" if watching and noise == "none" else noise, "noise_size": noise_size}
    first = worldmodels.Dataset.open(data or action_free, skip_damaged=skip_bad)  # type: ignore[arg-type]
    actions = "latent" if watching else "given"
    model = worldmodels.JEPA(first.spec, seed=seed, latent=latent, hidden=hidden, actions=actions, **parts, **unknown)
    how = settings if not watching else replace(settings, cost_gradient=0.0)
    with Bar("watch" if watching else "train", "updates") as bar:
        episodes = worldmodels.Stream.open(first) if stream else first
        best = best_on(validate, model, choose_by, updates) if then is None else None
        model = worldmodels.train(model, episodes, how, updates=updates, seed=seed, progress=shown_on(bar), watch=best)
    if then is not None:
        labelled = worldmodels.Dataset.open(then, skip_damaged=skip_bad)
        with Bar("act", "updates") as bar:
            best = best_on(validate, labelled, choose_by, updates)
            model = worldmodels.learn_actions(
                model, labelled, settings, updates=updates, seed=seed, progress=shown_on(bar), watch=best
            )
    if best is not None:
        best(model, updates, last=True)
        model = best.model
        said = ", ".join(f"{score:.4f} at {looked}" for looked, score in best.scores)
        console.print(f"kept the model of update {best.updates}: {said}", highlight=False)
    worldmodels.save(model, out)
    console.print(f"{out}: {manifest.describe(out)}")


def best_on(validate: Path | None, like: Any, choose_by: Choice, updates: int) -> Best | None:
    """Keeps the best of the models for the spec of `like` on the episodes in `validate`; None where there are none."""
    if validate is None:
        return None
    episodes = worldmodels.Dataset.open(validate)
    if episodes.spec != like.spec:
        raise worldmodels.DataError(f"{validate} is of {episodes.spec}, the model of {like.spec}: give episodes of the same.")

    def score(model: Any) -> float:
        if choose_by == "plans":
            return -rank_plans(model, episodes).mean
        return open_loop_score(look(model, trials_for(model, episodes, AHEAD, WINDOWS)))

    return Best(score, every=max(1, updates // LOOKS))


def shown_on(bar: Bar):
    """A callback that shows a training report beside the bar."""

    def show(report: worldmodels.Progress) -> None:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        bar(report.updates, report.total, f"{losses}  {in_words(report.recipe)}")

    return show


def in_words(recipe: dict[str, float]) -> str:
    """The four terms of the recipe, and the rank."""
    information = "  ".join(f"{name[-1]} {recipe[name]:.1f}" for name in ("information_x", "information_y", "information_z"))
    return f"nats: {information}  unexplained {recipe['prediction_error']:.1%}  rank {recipe['effective_rank']:.1f}"
