"""Every world model, by one line each: the contract tests run over this list."""

from collections.abc import Callable
from typing import Any

import worldmodels
from tests import tiny

SIZES = {"latent": 8, "hidden": 16, "head": 16, "expander": 16}

MODELS: dict[str, Callable[[], Any]] = {
    "jepa": lambda: worldmodels.JEPA(tiny.SPEC, **SIZES),
    "jepa-discrete": lambda: worldmodels.JEPA(tiny.DISCRETE, **SIZES),
    "jepa-layer": lambda: worldmodels.JEPA(tiny.SPEC, norm="layer", **SIZES),
    "jepa-simplex": lambda: worldmodels.JEPA(tiny.SPEC, norm="simplex", **SIZES),
}
