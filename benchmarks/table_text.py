"""Lines of results as text: grouped, averaged over seeds, and said in as many digits as they support."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from scipy import stats

Lines = Sequence[dict]


def short(task: str) -> str:
    return task.removeprefix("dm_control/").removesuffix("-v0")


def group(lines: Lines, *fields: str) -> dict[tuple[str, ...], list[dict]]:
    """Lines that agree in `fields` (compared as text, a dict by its JSON)."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for line in lines:
        groups.setdefault(tuple(text_of(line.get(field, "")) for field in fields), []).append(line)
    return groups


def group_by_accelerator(lines: Lines) -> dict[str, list[dict]]:
    """Lines by the accelerator they were measured on, "" for none."""
    found: dict[str, list[dict]] = {}
    for line in lines:
        found.setdefault(line.get("machine", {}).get("accelerator") or "", []).append(line)
    return found


def latest(lines: Lines) -> Lines:
    """Of lines that differ in other settings than the condition and the width of networks, such as updates, those measured last."""
    found: dict[tuple, list[dict]] = {}
    for line in lines:
        width = line["settings"].get("hidden")
        found.setdefault((line["task"], line["method"], line["frames"], line.get("condition"), width), []).append(line)
    return [line for cell in found.values() for line in cell if line["settings"] == cell[-1]["settings"]]


def mean_and_interval(cell: Lines, metric: str) -> tuple[float | None, float | None]:
    """Mean of `metric` over the lines of a cell and the half-width of its 95 % interval; (None, None) where unmeasured.

    Over several seeds the interval is Student's t of their values; one line alone keeps the interval it
    measured over its episodes. A value that is not finite makes the mean NaN: a failed seed is not left out.
    """
    measured = [line for line in cell if line.get(metric) is not None]
    if not measured:
        return None, None
    values = [float(line[metric]) for line in measured]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, measured[0].get(metric.removesuffix("_mean") + "_ci95")
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))


def plus_minus(cell: Lines, metric: str) -> str:
    """`760 ± 25`, both at the digits the interval supports; `—` where unmeasured."""
    return interval_text(*mean_and_interval(cell, metric))


def interval_text(mean: float | None, interval: float | None) -> str:
    """`760 ± 25`; whole numbers from 10 up, two decimals below."""
    if mean is None or interval is None or not math.isfinite(mean) or not math.isfinite(interval):
        return number(mean, 3)
    decimals = 0 if abs(mean) >= 10 or interval >= 10 else 2
    return f"{mean:,.{decimals}f} ± {interval:,.{decimals}f}"


def number(value: float | None, significant: int | None = 3) -> str:
    """`value` for people: so many significant digits (None: a whole number), thousands apart, `—` where unmeasured."""
    if value is None:
        return "—"
    if not math.isfinite(value):
        return "not finite"
    if significant is None or value == 0:
        return f"{value:,.0f}"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0") if abs(value) < 0.1 else text


def measured(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], drop_empty: bool = False) -> str:
    """A markdown table, figures to the right; `drop_empty` leaves out columns in which nothing was measured."""
    kept = [i for i in range(len(headings)) if not drop_empty or any(row[i] not in ("—", "") for row in rows)]
    figures = [all(re.match(r"[-\d—]|not finite", row[i]) for row in rows) for i in kept]
    lines = [[headings[i] for i in kept], ["---:" if right else "---" for right in figures]]
    lines += [[row[i].replace("|", "\\|") for i in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def provenance(lines: Lines) -> str:
    """A line under the table: which commits and machines the figures come from."""
    commits = sorted({str(line["commit"]) for line in lines if line.get("commit")})
    machines = sorted({_machine(line["machine"]) for line in lines if line.get("machine")})
    if not commits and not machines:
        return ""
    parts = [f"commit {', '.join(commits)}" if commits else "", f"on {'; '.join(machines)}" if machines else ""]
    return f"\n\n*Measured at {' '.join(part for part in parts if part)}.*"


def describe(value: object) -> str:
    """A setting, version list or machine as words: `cores 2, memory_gb 8`."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {describe(part)}" for name, part in value.items() if part is not None)
    return ", ".join(map(describe, value)) if isinstance(value, list | tuple) else str(value)


def _machine(machine: object) -> str:
    """What decides speed: the accelerator or processor, and the cores."""
    if not isinstance(machine, dict):
        return str(machine)
    names = [str(machine[name]) for name in ("accelerator", "cpu") if machine.get(name)]
    return ", ".join([*names, f"{machine['cores']} cores"] if machine.get("cores") else names)


def text_of(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
