"""The tables of hierarchies in mazes; see `benchmarks.tables`."""

import numpy as np

from benchmarks.table_text import Lines, group, markdown, mean_and_interval, number, plus_minus, provenance

CLOCKS = {"PointMaze_UMaze-v3": 3.0, "PointMaze_Medium-v3": 6.0, "PointMaze_Large-v3": 8.0, "PointMaze_Door-v0": 4.8}
"""Seconds until an episode ends."""
BESIDE = ("one_level", "one_level_critic", "two_level_mean")
"""What two levels are held against."""
UPPER = ("upper_horizon", "upper_samples", "upper_iterations", "replan", "leaps")
"""Settings that one level does not have, so that it is the same under any."""


def mazes(lines: Lines) -> str:
    """One row per maze and method: goals reached, over seeds, how long it took where they were, and a decision."""
    rows = []
    for (task, method, _), cell in group(alike(lines), "task", "method", "settings").items():
        fields = ("seconds_to_goal", "decision_ms_p50", "decision_ms_mean", "learning_minutes")
        seconds, median, mean, learning = (number(mean_and_interval(cell, field)[0]) for field in fields)
        played = f"{len(cell)} × {cell[0]['settings']['episodes']}"
        rows.append([task, method, plus_minus(cell, "success_rate"), seconds, median, mean, played, learning])
    headings = ["Maze", "Method", "Goals reached ± 95 %", "Seconds", "Decision p50, ms", "mean, ms", "Seeds × ways"]
    return markdown([*headings, "Minutes to learn"], sorted(rows)) + provenance(lines)


def differences(lines: Lines) -> str:
    """One row per maze and method beside two levels: what these reach more and save on the same ways, by seeds and by ways.

    Over seeds the interval is of what was learned, on these ways; over ways, of the means over these seeds.
    """
    rows = []
    for (task, _), cells in group(alike(lines), "task", "settings").items():
        found = {(line["method"], line["seed"]): line for line in cells}
        for other in BESIDE:
            seeds = sorted(seed for method, seed in found if method == "two_level" and (other, seed) in found)
            if seeds:
                more = [each_way(found["two_level", seed]) - each_way(found[other, seed]) for seed in seeds]
                by_seeds, by_ways = np.mean(more, 1), np.mean(more, 0)
                figures = [_mean(by, column, sign) for column, sign in ((0, 1), (1, -1)) for by in (by_seeds, by_ways)]
                rows.append([task, other, *figures, f"{len(seeds)} × {len(by_ways)}"])
    headings = [
        "Maze",
        "Two levels beside",
        "Goals more, by seeds",
        "by ways",
        "Seconds saved, by seeds",
        "by ways",
        "Seeds × ways",
    ]
    return markdown(headings, sorted(rows)) + provenance(lines)


def alike(lines: Lines) -> Lines:
    """The lines without the settings that one level does not have; of those that are then of the same cell, the last."""
    found = {}
    for line in lines:
        settings = {name: value for name, value in line["settings"].items() if name not in UPPER}
        found[line["task"], line["method"], line["seed"], str(sorted(settings.items()))] = line | {"settings": settings}
    return list(found.values())


def each_way(line: dict) -> np.ndarray:
    """[W, 2], whether each way's goal was reached, and the seconds it took: until the clock runs out where it was not."""
    clock = CLOCKS[line["task"]]
    return np.array([[taken is not None, clock if taken is None else taken] for taken in line["seconds"]], float)


def _mean(differences: np.ndarray, column: int, sign: int) -> str:
    """Of a column of [N, 2], with its interval."""
    return plus_minus([{"value": sign * value} for value in differences[:, column]], "value")


def horizons(lines: Lines) -> str:
    """One row per maze and level: metres that the predicted position is off, by seconds ahead."""
    times = sorted({line["seconds"] for line in lines})
    shown = [min(times, key=lambda time: abs(time - wanted)) for wanted in (0.2, 0.4, 1.0, 2.0, 3.0)]
    rows = []
    for (task, method), cell in group(lines, "task", "method").items():
        errors = [plus_minus([line for line in cell if line["seconds"] == time], "prediction_error") for time in shown]
        rows.append([task, method, *errors])
    return markdown(["Maze", "Predicted by", *(f"{time:g} s" for time in shown)], rows) + provenance(lines)
