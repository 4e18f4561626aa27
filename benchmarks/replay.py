"""`sailplan replay`: a flight recorder's log, decision by decision, made again and explained."""

import sys
from collections import Counter
from pathlib import Path

import tyro
from rich.console import Console

import mpc
from mpc.controller.explaining import explain

console = Console(markup=False)


def replay(log: tyro.conf.Positional[Path], decision: int | None = None) -> None:
    """Make recorded decisions again, bit for bit, and explain one.

    Exit code 1 where a decision comes out otherwise than it was recorded.

    Args:
        log: the folder that a controller recorded into.
        decision: which one to explain; all are made again and counted if not given, and the last one is explained.
    """
    opened = mpc.Log(log)
    if decision is not None:
        made = opened.replay(decision)
        console.print(explain(made), highlight=False)
        sys.exit(0 if made.identical else 1)
    rungs, faults, different, made = Counter(), Counter(), [], None
    for made in opened.replays():
        rungs[made.outcome.rung.name] += 1
        faults.update(fault.partition(":")[0] for fault in made.outcome.faults)
        different.extend([] if made.identical else [made.number])
    if made is None:
        raise mpc.LogError(f"{log}: no decision is recorded there.")
    console.print(f"{rungs.total()} decisions, {rungs.total() - len(different)} the same bit for bit", highlight=False)
    for counted in (rungs, faults):
        console.print(
            "  " + ", ".join(f"{name} {count}" for name, count in counted.most_common()), highlight=False, markup=False
        )
    if different:
        console.print(f"  different: {different[:20]}", highlight=False)
    console.print(explain(made), highlight=False)
    sys.exit(1 if different else 0)
