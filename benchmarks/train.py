"""`sailplan train`: a world model from a dataset, or first from one without actions."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

import worldmodels
from benchmarks.progress_bar import Bar
from mpc.ranking import rank_plans
from planners.errors import require_positive
from worldmodels import Dataset, manifest
from worldmodels.action_free import check_labelled
from worldmodels.diagnostics import look, open_loop_score, trials_for
from worldmodels.objectives import reweighted
from worldmodels.selection import Best
from worldmodels.spec import Spec

LOOKS, AHEAD, WINDOWS = 10, 20, 256  # at the model along a run; steps predicted at each, from so many moments
Choice = Literal["open-loop", "plans"]
console = Console(markup=False)


@dataclass(frozen=True)
class Parts:
    """Of the model.

    Attributes:
      latent: size of the representation.
      hidden: width of encoder and predictor.
      predictor: residual, gated or transformer.
      memory: none, stack or recurrent: for worlds that one observation does not show whole.
      history: observations that a memory reads, the newest among them.
      noise: none, gaussian, sparse or quantised: a latent variable for what cannot be known; gaussian with --action-free.
      noise_size: its components, or codes.
      members: of an ensemble of predictors.
    """

    latent: int = 64
    hidden: int = 128
    predictor: str = "residual"
    memory: str = "none"
    history: int = 4
    noise: str = "none"
    noise_size: int = 2
    members: int = 1

    def model(self, spec: Spec, *, norm: str, watching: bool, seed: int) -> worldmodels.JEPA:
        """An untrained one; where it is only `watching`, actions are latent."""
        parts = asdict(self)
        if watching:
            parts |= {"actions": "latent", "noise": "gaussian" if self.noise == "none" else self.noise}
        return worldmodels.JEPA(spec, seed=seed, norm=norm, **parts)


@dataclass(frozen=True)
class Lesson:
    """What it is trained by.

    Attributes:
      objective: vicreg, barlow, sigreg, teacher, consistency, inverse, smooth, straight, infonce or reconstruction.
      weights: of its terms, such as `--weights variance 2 covariance 0.1`.
      on_collapse: what to do where the representation stops saying anything.
    """

    objective: str = "vicreg"
    weights: dict[str, float] = field(default_factory=dict)
    on_collapse: Literal["warn", "stop", "ignore"] = "warn"

    def settings(self) -> worldmodels.TrainingSettings:
        chosen = worldmodels.preset(self.objective)
        objective = reweighted(chosen.objective, self.weights)
        return worldmodels.TrainingSettings(
            objective=objective, cost_gradient=chosen.cost_gradient, on_collapse=self.on_collapse
        )


def train(
    out: Path,
    data: tyro.conf.Positional[Path | None] = None,
    action_free: Path | None = None,
    then: Path | None = None,
    updates: int = 5_000,
    parts: tyro.conf.OmitArgPrefixes[Parts] = Parts(),
    lesson: tyro.conf.OmitArgPrefixes[Lesson] = Lesson(),
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
        updates: gradient steps, one at least; so many again with --then.
        parts: of the model.
        lesson: what it is trained by.
        seed: of initialisation and batches.
        skip_bad: leave damaged episodes out instead of stopping.
        stream: read windows from disk as they are needed, for data larger than memory.
        validate: a dataset of other episodes: of the models along the way, the best on them is kept instead of the last.
        choose_by: what makes the best: open-loop error, or the ranking of plans beside the true simulator.
    """
    if (data is None) == (action_free is None) or (action_free is None) != (then is None):
        raise worldmodels.DataError("expected a dataset's folder, or --action-free DATA with --then LABELLED.")
    if choose_by == "plans" and validate is None:
        raise worldmodels.DataError("--choose-by plans: expected episodes to rank plans on, --validate DATA.")
    require_positive(updates=updates)
    manifest.check_replaceable(out, "model")
    settings, norm = lesson.settings(), worldmodels.preset(lesson.objective).norm
    first = Dataset.open(data or action_free, skip_damaged=skip_bad)  # type: ignore[arg-type]
    labelled = None if then is None else Dataset.open(then, skip_damaged=skip_bad)
    acted = first if labelled is None else labelled
    if acted.spec.action.shape == (0,):
        raise worldmodels.DataError(
            f"{acted.folder}: its episodes have no actions. To learn by watching: --action-free DATA --then LABELLED."
        )
    model = parts.model(first.spec, norm=norm, watching=labelled is not None, seed=seed)
    if labelled is not None:
        check_labelled(model, labelled, settings)
    acting = model if labelled is None else parts.model(acted.spec, norm=norm, watching=False, seed=seed)
    best = best_on(validate, acting, choose_by, updates, skip_bad)
    episodes = worldmodels.Stream.open(first) if stream else first

    def taught(name: str, learn: Callable[..., Any], *given: Any, watch: Best | None) -> worldmodels.JEPA:
        with Bar(name, "updates") as bar:
            return learn(*given, updates=updates, seed=seed, progress=shown_on(bar), watch=watch)

    try:
        if labelled is None:
            model = taught("train", worldmodels.train, model, episodes, settings, watch=best)
        else:
            model = taught("watch", worldmodels.train, model, episodes, replace(settings, cost_gradient=0.0), watch=None)
            learn = partial(worldmodels.learn_actions, seen=() if stream else first)
            model = taught("act", learn, model, labelled, settings, watch=best)
    except worldmodels.CollapseError as error:
        if best is None or best.model is None:
            raise
        worldmodels.save(best.model, out)
        raise worldmodels.CollapseError(f"{error} The best before it, of update {best.updates}, is in {out}.") from error
    worldmodels.save(model if best is None else kept(best, model, updates), out)
    console.print(f"{out}: {manifest.describe(out)}")


def kept(best: Best, last: worldmodels.JEPA, updates: int) -> worldmodels.JEPA:
    """The best of the models along the way, the last among them."""
    best(last, updates, last=True)
    said = ", ".join(f"{score:.4f} at {looked}" for looked, score in best.scores)
    console.print(f"kept the model of update {best.updates}: {said}", highlight=False)
    return best.model


def best_on(validate: Path | None, untrained: worldmodels.JEPA, choose_by: Choice, updates: int, skip_bad: bool) -> Best | None:
    """Keeps the best of the models on the episodes in `validate`; None where there are none.

    An `untrained` one is scored first, so that what cannot be measured is refused before training.
    """
    if validate is None:
        return None
    episodes, spec = Dataset.open(validate, skip_damaged=skip_bad), untrained.spec
    if episodes.spec != spec:
        raise worldmodels.DataError(f"{validate} is of {episodes.spec}, the model of {spec}: give episodes of the same.")

    def score(model: Any) -> float:
        if choose_by == "plans":
            return -rank_plans(model, episodes).mean
        return open_loop_score(look(model, trials_for(model, episodes, AHEAD, WINDOWS)))

    score(untrained)
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
