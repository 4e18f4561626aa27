"""Every objective, by one line each: the contract tests run over this list, which has to hold every preset."""

from typing import NamedTuple

from worldmodels.objectives import Preset, preset


class Case(NamedTuple):
    """A preset, and the weights without which its latents collapse; none where that is another one's, or the error is relative."""

    preset: Preset
    without: tuple[str, ...] = ()


OBJECTIVES: dict[str, Case] = {
    "vicreg": Case(preset("vicreg"), without=("variance", "covariance")),
    "barlow": Case(preset("barlow"), without=("variance", "invariance", "redundancy")),
    "sigreg": Case(preset("sigreg"), without=("gaussianity",)),
    "teacher": Case(preset("teacher")),
    "consistency": Case(preset("consistency")),
    "inverse": Case(preset("inverse")),
    "smooth": Case(preset("smooth")),
    "straight": Case(preset("straight")),
    "infonce": Case(preset("infonce")),
    "reconstruction": Case(preset("reconstruction")),
}
