"""Objectives by name, each with the normalisation of latents and the gradient of the cost that belong to it."""

import difflib
from typing import NamedTuple

from worldmodels.errors import SpecError
from worldmodels.objectives.barlow import BarlowTwins
from worldmodels.objectives.consistency import Consistency
from worldmodels.objectives.infonce import InfoNCE
from worldmodels.objectives.inverse import InverseDynamics
from worldmodels.objectives.objective import Mixture, Objective
from worldmodels.objectives.reconstruction import Reconstruction
from worldmodels.objectives.sigreg import SIGReg
from worldmodels.objectives.smoothness import Smoothness, Straightening
from worldmodels.objectives.teacher import Teacher
from worldmodels.objectives.vicreg import VICReg


class Preset(NamedTuple):
    """What to train with, `norm` of `JEPASettings` and `cost_gradient` of `TrainingSettings`."""

    objective: Objective
    source: str
    norm: str = "none"
    cost_gradient: float = 0.0


PRESETS = {
    "vicreg": Preset(VICReg(), "Bardes, Ponce & LeCun 2022"),
    "barlow": Preset(BarlowTwins(), "Zbontar et al. 2021"),
    "sigreg": Preset(SIGReg(), "Balestriero & LeCun 2025"),
    "teacher": Preset(Teacher(), "Grill et al. 2020"),
    "consistency": Preset(Consistency(), "Hansen et al. 2024", norm="simplex", cost_gradient=1.0),
    "inverse": Preset(Mixture((VICReg(), InverseDynamics())), "Pathak et al. 2017, on VICReg"),
    "smooth": Preset(Mixture((VICReg(), Smoothness())), "Wiskott & Sejnowski 2002, on VICReg"),
    "straight": Preset(Mixture((VICReg(), Straightening())), "Hénaff et al. 2019, on VICReg"),
    "infonce": Preset(InfoNCE(), "van den Oord et al. 2018; a baseline"),
    "reconstruction": Preset(Reconstruction(), "Hafner et al. 2019; a baseline"),
}


def preset(name: str) -> Preset:
    """The preset called `name`; `SpecError` with near matches for one that is not there."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3) or list(PRESETS)
        raise SpecError(f"objective {name!r} is not known. Did you mean {', '.join(near)}?")
    return PRESETS[name]
