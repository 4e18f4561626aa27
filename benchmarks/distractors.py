"""`sailplan bench distractors`: noise beside the state, as many components as there are signals and four times as many.

A joint embedding may drop what cannot be predicted; a model that reconstructs has to spend itself on it.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from benchmarks.views import View
from worldmodels.objectives import PRESETS

METHODS = ("vicreg", "barlow", "sigreg", "teacher", "reconstruction")
AMOUNTS = (0, 1, 4)


def bench_distractors(
    tasks: Sequence[str], methods: Sequence[str], amounts: Sequence[int], widths: Sequence[int], budget: Budget
) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/distractors.jsonl yet."""
    cells = []
    for task in choose("task", tasks, TASKS):
        clean = View().environment(TASKS[task])
        clean.close()
        for amount in amounts:
            view = View(distractors=amount * clean.spec.size)
            condition = f"{amount} × as many" if amount else "clean"
            for method in choose("objective", methods, METHODS):
                for width in widths:
                    parts = {"hidden": width}
                    cells.append(Cell(task, method, condition, PRESETS[method], view, clean.spec.names, parts))
    return measure_cells("distractors", cells, budget)
