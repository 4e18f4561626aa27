"""`sailplan bench partial`: the cartpole without velocities, on models without memory and with one; and with everything in sight."""

from collections.abc import Sequence
from typing import Any

from benchmarks.model_cells import Budget, Cell, measure_cells
from benchmarks.results import choose
from benchmarks.views import View
from worldmodels.objectives import PRESETS

TASK, SEEN = "cartpole-swingup", ("position",)
HIDDEN = View(observe=SEEN)
METHODS: dict[str, tuple[str, View, dict[str, Any]]] = {
    "full-state": ("full state", View(), {}),
    "memoryless": ("no velocities", HIDDEN, {}),
    "stack": ("no velocities", HIDDEN, {"memory": "stack"}),
    "recurrent": ("no velocities", HIDDEN, {"memory": "recurrent"}),
}


def bench_partial(methods: Sequence[str], budget: Budget) -> list[dict[str, Any]]:
    """Lines of the cells that are not in benchmarks/results/partial.jsonl yet."""
    cells = []
    for method in choose("model", methods, METHODS):
        condition, view, parts = METHODS[method]
        cells.append(Cell(TASK, method, condition, PRESETS["vicreg"], view, SEEN, parts))
    return measure_cells("partial", cells, budget)
