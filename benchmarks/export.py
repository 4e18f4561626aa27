"""`sailplan export`: a policy or a whole planner for a machine without this package."""

from pathlib import Path

import tyro
from rich.console import Console

import mpc
from benchmarks.agents import load_acting
from mpc.export import Format
from worldmodels import manifest

console = Console(markup=False)


def export(
    source: tyro.conf.Positional[Path],
    out: Path,
    format: Format = "onnx",
    planner: str | None = None,
    horizon: int | None = None,
) -> None:
    """Write a policy as ONNX, or a policy or a planner as StableHLO, with normalisation, limits and units inside.

    Args:
        source: the folder of a policy; of a model or agent to export a planner.
        out: the export's folder; an older export there is replaced once the new one is complete.
        format: onnx (policies) or stablehlo.
        planner: cem, icem, gradient, …; ignored for a policy. If not given, a learned agent's own, icem for other models.
        horizon: actions in its plans; if not given, that planner's own, or 20.
    """
    mpc.export(load_acting(source, planner, horizon=horizon), out, format)
    console.print(f"{out}: {manifest.describe(out)}", highlight=False)
