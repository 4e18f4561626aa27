"""Every world model, by one line each: the contract tests run over this list."""

from collections.abc import Callable
from typing import Any

import worldmodels
from tests import tiny

MODELS: dict[str, Callable[[], Any]] = {
    "jepa": lambda: worldmodels.JEPA(tiny.SPEC, latent=8, hidden=16, head=16, expander=16),
    "jepa-discrete": lambda: worldmodels.JEPA(tiny.DISCRETE, latent=8, hidden=16, head=16, expander=16),
}
