"""Training objectives: small terms with named weights."""

from worldmodels.objectives.vicreg import VICReg

__all__ = ["VICReg"]
