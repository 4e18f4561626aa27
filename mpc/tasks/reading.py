"""Reading a quantity by name, and the bodies' own constants."""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

import mujoco
from jaxtyping import Array

from mpc.errors import CostError
from mpc.readouts import Readouts


def read(readout: Mapping[str, Array], name: str) -> Array:
    """`readout[name]`, or a `CostError` with near matches while the cost is traced."""
    return Readouts(readout)[name]


@lru_cache
def suite_model(body: str) -> mujoco.MjModel:
    """The compiled dm_control model of a body, for its masses and lengths."""
    try:
        module = import_module(f"dm_control.suite.{body}")
    except ImportError as error:
        raise CostError(f"the {body}'s masses and lengths need dm_control: pip install 'sailplan[dmc]'.") from error
    return module.Physics.from_xml_string(*module.get_model_and_assets()).model.ptr
