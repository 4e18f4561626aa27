"""The tables of hierarchies in mazes; see `benchmarks.tables`."""

from benchmarks.table_text import Lines, group, interval_text, markdown, mean_and_interval, number, plus_minus, provenance

CLOCKS = {"PointMaze_UMaze-v3": 3.0, "PointMaze_Medium-v3": 6.0, "PointMaze_Large-v3": 8.0, "PointMaze_Door-v0": 4.8}
"""Seconds until an episode ends."""
BESIDE = ("one_level", "one_level_critic", "two_level_mean")
"""What two levels are held against."""
UPPER = ("upper_horizon", "upper_samples", "upper_iterations", "replan", "leaps")
"""Settings that one level does not have, so that it is the same under any."""


def mazes(lines: Lines) -> str:
    """One row per maze and method: goals reached, over seeds, how long it took where they were, and a decision."""
    rows = []
    for (task, method), cell in group(lines, "task", "method").items():
        fields = ("seconds_to_goal", "decision_ms_p50", "decision_ms_mean", "learning_minutes")
        seconds, median, mean, learning = (number(mean_and_interval(cell, field)[0]) for field in fields)
        played = f"{len(cell)} × {cell[0]['settings']['episodes']}"
        rows.append([task, method, plus_minus(cell, "success_rate"), seconds, median, mean, played, learning])
    headings = ["Maze", "Method", "Goals reached ± 95 %", "Seconds", "Decision p50, ms", "mean, ms", "Seeds × ways"]
    return markdown([*headings, "Minutes to learn"], sorted(rows)) + provenance(lines)


def differences(lines: Lines) -> str:
    """One row per maze and method beside two levels: what these reach more, and save, seed by seed on the same ways."""
    shared = [
        line | {"settings": {name: value for name, value in line["settings"].items() if name not in UPPER}} for line in lines
    ]
    rows = []
    for (task, _), alike in group(shared, "task", "settings").items():
        found = {(line["method"], line["seed"]): line for line in alike}
        for other in BESIDE:
            cell = [
                {
                    "reached": line["success_rate"] - found[other, seed]["success_rate"],
                    "saved": on_the_way(found[other, seed]) - on_the_way(line),
                }
                for (method, seed), line in found.items()
                if method == "two_level" and (other, seed) in found
            ]
            if cell:
                figures = [interval_text(*mean_and_interval(cell, field)) for field in ("reached", "saved")]
                rows.append([task, other, *figures, str(len(cell))])
    return markdown(
        ["Maze", "Two levels beside", "Goals more ± 95 %", "Seconds saved ± 95 %", "Seeds"], sorted(rows)
    ) + provenance(lines)


def on_the_way(line: dict) -> float:
    """Mean seconds of a way; one that misses the goal lasts until the clock runs out."""
    clock = CLOCKS[line["task"]]
    return sum(clock if taken is None else taken for taken in line["seconds"]) / len(line["seconds"])


def horizons(lines: Lines) -> str:
    """One row per maze and level: metres that the predicted position is off, by seconds ahead."""
    times = sorted({line["seconds"] for line in lines})
    shown = [min(times, key=lambda time: abs(time - wanted)) for wanted in (0.2, 0.4, 1.0, 2.0, 3.0)]
    rows = []
    for (task, method), cell in group(lines, "task", "method").items():
        errors = [plus_minus([line for line in cell if line["seconds"] == time], "prediction_error") for time in shown]
        rows.append([task, method, *errors])
    return markdown(["Maze", "Predicted by", *(f"{time:g} s" for time in shown)], rows) + provenance(lines)
