"""The tables of hierarchies in mazes; see `benchmarks.tables`."""

import numpy as np

from benchmarks.maze_learning import MazeLearning
from benchmarks.table_text import Lines, group, markdown, mean_and_interval, number, plus_minus, provenance

BESIDE = ("one_level", "one_level_critic", "two_level_mean")
"""What two levels are held against."""


def mazes(lines: Lines) -> str:
    """One row per maze and method: goals reached, over seeds, how long it took where they were, and a decision."""
    rows = []
    for (task, method, _), cell in group(lines, "task", "method", "settings").items():
        fields = ("seconds_to_goal", "decision_ms_p50", "decision_ms_mean", "learning_minutes")
        seconds, median, mean, learning = (number(mean_and_interval(cell, field)[0]) for field in fields)
        played = f"{len(cell)} × {cell[0]['settings']['episodes']}"
        rows.append(
            [
                task,
                method,
                _search(cell[0]["settings"]),
                plus_minus(cell, "success_rate"),
                seconds,
                median,
                mean,
                played,
                learning,
            ]
        )
    headings = ["Maze", "Method", "Search", "Goals reached ± 95 %", "Seconds", "Decision p50, ms", "mean, ms", "Seeds × ways"]
    return markdown([*headings, "Minutes to learn"], sorted(rows)) + provenance(lines)


def _search(settings: dict) -> str:
    """Horizon, samples and iterations of the search for actions; of two levels the upper one's too, and what is unusual there."""
    upper = settings.get("upper_horizon", settings.get("moves")) if "stride" in settings else None
    searches = [(settings["horizon"] if upper is None else 2 * settings["stride"], settings["samples"], settings["iterations"])]
    searches += [] if upper is None else [(upper, settings["upper_samples"], settings["upper_iterations"])]
    words, usual = [" × ".join(map(str, search)) for search in searches], MazeLearning.distance_updates
    words += ["no Leaps"] if settings.get("leaps") == 0 else []
    words += [f"{settings['distance_updates']:,} updates"] if settings.get("distance_updates", usual) != usual else []
    words += [f"reach {settings['reach']:g}"] if settings.get("reach") is not None else []
    return ", ".join(words)


def differences(lines: Lines) -> str:
    """One row per maze and method beside two levels: what these reach more and save on the same ways, by seeds and by ways.

    Over seeds the interval is of what was learned, on these ways; over ways, of the means over these seeds. Of two levels the
    best search counts, of one level each is a row.
    """
    rows = []
    for (task,), cells in group(lines, "task").items():
        searches = group(cells, "method", "settings")
        of_two = best_search([line for line in cells if line["method"] == "two_level"])
        for (method, _), others in searches.items():
            pairs = [(two, one) for two in of_two for one in others if two["seed"] == one["seed"]]
            pairs = [(two, one) for two, one in pairs if len(two["seconds"]) == len(one["seconds"])]
            if method in BESIDE and pairs:
                more = [each_way(two) - each_way(one) for two, one in pairs]
                by_seeds, by_ways = np.mean(more, 1), np.mean(more, 0)
                figures = [_mean(by, column, sign) for column, sign in ((0, 1), (1, -1)) for by in (by_seeds, by_ways)]
                rows.append([task, method, _search(others[0]["settings"]), *figures, f"{len(pairs)} × {len(by_ways)}"])
    headings = [
        "Maze",
        "Two levels beside",
        "Its search",
        "Goals more, by seeds",
        "by ways",
        "Seconds saved, by seeds",
        "by ways",
        "Seeds × ways",
    ]
    return markdown(headings, sorted(rows)) + provenance(lines)


def best_search(lines: Lines) -> Lines:
    """Of one method in one maze, the lines of the search that went most ways, and of those the one that reached most goals."""

    def merit(cell: Lines) -> tuple[int, int]:
        seconds = [taken for line in cell for taken in line["seconds"]]
        return len(seconds), len(seconds) - seconds.count(None)

    return max(group(lines, "settings").values(), key=merit, default=[])


def each_way(line: dict) -> np.ndarray:
    """[W, 2], whether each way's goal was reached, and the seconds it took: until the clock runs out where it was not."""
    clock = line["clock"]
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
        rows.append([task, method, *errors, str(len({line["seed"] for line in cell}))])
    return markdown(["Maze", "Predicted by", *(f"{time:g} s" for time in shown), "Seeds"], rows) + provenance(lines)
