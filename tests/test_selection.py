"""The model that is kept is the one of least score, however training ends."""

import jax
import numpy as np
import pytest

import worldmodels
from tests import tiny
from worldmodels.diagnostics import look, open_loop_score, trials_for
from worldmodels.errors import DataError
from worldmodels.selection import Best


def test_the_best_is_kept_whatever_comes_after():
    looked = []
    best = Best(lambda model: looked.append(model) or {"a": 3.0, "b": 1.0, "c": 2.0, "d": float("nan")}[model], every=100)
    for updates, model in ((50, "x"), (100, "a"), (150, "x"), (200, "b"), (300, "c"), (400, "d")):
        best(model, updates)
    assert looked == ["a", "b", "c", "d"]
    assert (best.model, best.updates) == ("b", 200)
    best("a", 420, last=True)
    best("a", 420, last=True)
    assert [updates for updates, _ in best.scores] == [100, 200, 300, 400, 420]
    with pytest.raises(DataError, match="every=0"):
        Best(len, every=0)


@pytest.mark.parametrize("first", [float("nan"), float("inf"), -float("inf")])
def test_a_first_score_that_is_not_finite_does_not_stay(first):
    scores = iter([first, 3.0, float("nan"), 2.0, -float("inf"), 2.5])
    best, kept = Best(lambda _: next(scores), every=1), []
    for updates in range(1, 7):
        best(f"model {updates}", updates)
        kept.append(best.updates)
    assert kept == [1, 2, 2, 4, 4, 4]


@pytest.mark.slow
def test_training_shows_its_models_and_their_open_loop_error_falls():
    model = worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16)
    unseen = tiny.episodes(count=4, length=40, seed=9)
    given = trials_for(model, unseen, 5, 32)

    def score(candidate):
        return open_loop_score(look(candidate, given))

    best = Best(score, every=100)
    settings = worldmodels.TrainingSettings(batch=32, length=3)
    last = worldmodels.train(model, tiny.episodes(), settings, updates=300, watch=best)
    assert [updates for updates, _ in best.scores] == [100, 200, 300]
    assert best.scores[-1][1] < 0.7 * score(model)
    if best.updates == 300:
        for one, other in zip(jax.tree.leaves(best.model), jax.tree.leaves(last), strict=True):
            np.testing.assert_array_equal(one, other)
