"""`sailplan bench pixels`: models of 64 × 64 pictures, which see nothing else, beside models of the state, on the same episodes.

`wind` sees leaves in the wind behind the body, which say nothing and cannot be predicted: a distractor for pictures.
`reconstruction` and `reconstruction-wind` draw what they see, with as large an encoder. One picture hides all velocities, so models of
pictures stack the last three. They read out no quantities; plans are made by the learned cost alone, as on the state, and open-loop
error is that of a linear probe for both.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.planner_cells import TASKS
from benchmarks.results import choose
from benchmarks.views import View
from worldmodels.objectives import PRESETS

RECORDED = 12  # episodes of each kind: 24,000 frames
STACKED = {"memory": "stack", "history": 3}
PIXELS, WIND = View(observe=("pixels",)), View(observe=("pixels",), wind=True)
METHODS: dict[str, tuple[str, str, View, dict[str, Any]]] = {
    "state": ("vicreg", "state", View(), {}),
    "pixels": ("vicreg", "64 × 64 pixels", PIXELS, STACKED),
    "wind": ("vicreg", "leaves in the wind", WIND, STACKED),
    "reconstruction": ("reconstruction", "64 × 64 pixels", PIXELS, STACKED),
    "reconstruction-wind": ("reconstruction", "leaves in the wind", WIND, STACKED),
}


def bench_pixels(tasks: Sequence[str], methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/pixels.jsonl yet."""
    cells = []
    for task in choose("task", tasks, TASKS):
        for method in choose("method", methods, METHODS):
            preset, condition, view, parts = METHODS[method]
            cells.append(Cell(task, method, condition, PRESETS[preset], view, parts=parts, recorded=RECORDED, probed=True))
    return measure_cells("pixels", cells, budget)
