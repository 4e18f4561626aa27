"""Every world model, by one line each: the contract tests run over this list."""

from collections.abc import Callable
from typing import Any

import worldmodels
from tests import tiny

SIZES = {"latent": 8, "hidden": 16, "head": 16, "expander": 16}

MODELS: dict[str, Callable[[], Any]] = {
    "jepa": lambda: worldmodels.JEPA(tiny.SPEC, **SIZES),
    "jepa-discrete": lambda: worldmodels.JEPA(tiny.DISCRETE, **SIZES),
    "simplex-transformer": lambda: worldmodels.JEPA(tiny.SPEC, norm="simplex", predictor="transformer", **SIZES),
    "layer-gated-stack": lambda: worldmodels.JEPA(
        tiny.SPEC, norm="layer", predictor="gated", memory="stack", history=3, **SIZES
    ),
    "recurrent-discrete": lambda: worldmodels.JEPA(tiny.DISCRETE, memory="recurrent", **SIZES),
    "direct": lambda: worldmodels.JEPA(tiny.SPEC, direct=True, periodic=(0,), **SIZES),
    "direct-both": lambda: worldmodels.JEPA(tiny.BOTH, direct=True, **SIZES),
    "pictures": lambda: worldmodels.JEPA(tiny.PICTURES, **SIZES),
    "quantised-ensemble": lambda: worldmodels.JEPA(tiny.SPEC, noise="quantised", noise_size=3, members=2, **SIZES),
    "sparse": lambda: worldmodels.JEPA(tiny.SPEC, noise="sparse", **SIZES),
    "translated": lambda: worldmodels.JEPA(tiny.SPEC, noise="gaussian", actions="translated", **SIZES),
    "both-stack": lambda: worldmodels.JEPA(tiny.BOTH, memory="stack", history=2, periodic=True, **SIZES),
}
