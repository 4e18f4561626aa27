"""`sailplan bench objectives`: every objective on the same data, model and budget: diagnostics, and the return of iCEM on it.

`none` is VICReg without its regulariser, which collapses.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from worldmodels.objectives import PRESETS, Preset, VICReg

METHODS = {**PRESETS, "none": Preset(VICReg(variance=0.0, covariance=0.0), "VICReg without its regulariser")}


def bench_objectives(tasks: Sequence[str], methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/objectives.jsonl yet."""
    chosen = choose("objective", methods, METHODS)
    cells = [Cell(task, method, "clean", METHODS[method]) for task in choose("task", tasks, TASKS) for method in chosen]
    return measure_cells("objectives", cells, budget)
