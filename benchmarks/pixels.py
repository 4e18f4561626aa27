"""`sailplan bench pixels`: models of 64 × 64 pictures, beside one that is told the state, all trained on the same episodes.

One picture hides velocities, so what looks at pictures remembers a few.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from benchmarks.views import View
from worldmodels.objectives import PRESETS

RECORDED = 12  # episodes of each kind
METHODS: dict[str, tuple[str, View, dict[str, Any]]] = {
    "state": ("state", View(), {}),
    "pixels": ("64 × 64 pixels", View(observe=("pixels",)), {"memory": "stack", "history": 3}),
}


def bench_pixels(tasks: Sequence[str], methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/pixels.jsonl yet."""
    cells = []
    for task in choose("task", tasks, TASKS):
        for method in choose("model", methods, METHODS):
            condition, view, parts = METHODS[method]
            cells.append(Cell(task, method, condition, PRESETS["vicreg"], view, parts=parts, recorded=RECORDED, probed=True))
    return measure_cells("pixels", cells, budget)
