"""Training objectives: small terms with named weights, one file each."""

from worldmodels.objectives.barlow import BarlowTwins
from worldmodels.objectives.consistency import Consistency
from worldmodels.objectives.infonce import InfoNCE
from worldmodels.objectives.inverse import InverseDynamics
from worldmodels.objectives.objective import Mixture, Objective, Views, reweighted
from worldmodels.objectives.presets import PRESETS, Preset, preset
from worldmodels.objectives.reconstruction import Reconstruction
from worldmodels.objectives.sigreg import SIGReg
from worldmodels.objectives.smoothness import Smoothness, Straightening
from worldmodels.objectives.teacher import Teacher
from worldmodels.objectives.vicreg import VICReg

__all__ = [
    "PRESETS",
    "BarlowTwins",
    "Consistency",
    "InfoNCE",
    "InverseDynamics",
    "Mixture",
    "Objective",
    "Preset",
    "Reconstruction",
    "SIGReg",
    "Smoothness",
    "Straightening",
    "Teacher",
    "VICReg",
    "Views",
    "preset",
    "reweighted",
]
