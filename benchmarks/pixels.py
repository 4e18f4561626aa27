"""`sailplan bench pixels`: models of 64 × 64 pictures, which see nothing else, beside models of the state, on the same episodes.

`wind` sees leaves in the wind behind the body, which say nothing and cannot be predicted: a distractor for pictures.
One picture hides all velocities, so the model of pictures stacks the last three. It reads out no quantities; plans are made by the
learned cost alone, as on the state, and open-loop error is that of a linear probe for both.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from benchmarks.views import View
from worldmodels.objectives import PRESETS

RECORDED = 12  # episodes of each kind: 24,000 frames
METHODS: dict[str, tuple[str, View, dict[str, Any]]] = {
    "state": ("state", View(), {}),
    "pixels": ("64 × 64 pixels", View(observe=("pixels",)), {"memory": "stack", "history": 3}),
    "wind": ("leaves in the wind", View(observe=("pixels",), wind=True), {"memory": "stack", "history": 3}),
}


def bench_pixels(tasks: Sequence[str], methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/pixels.jsonl yet."""
    cells = []
    for task in choose("task", tasks, TASKS):
        for method in choose("method", methods, METHODS):
            condition, view, parts = METHODS[method]
            cells.append(Cell(task, method, condition, PRESETS["vicreg"], view, parts=parts, recorded=RECORDED, probed=True))
    return measure_cells("pixels", cells, budget)
