"""Planners by the name a person types."""

import difflib
import inspect

import planners


def planner_classes() -> dict[str, type]:
    """Every exported planner by its name in lower case."""
    exported = {name: getattr(planners, name) for name in planners.__all__}
    return {
        name.lower(): value
        for name, value in exported.items()
        if inspect.isclass(value)
        and value is not planners.Planner
        and all(hasattr(value, m) for m in ("begin", "improve", "finish"))
    }


def planner_class(name: str) -> type:
    """`planner_class("cem")`; `PlannerError` with near matches for a name that is not there."""
    classes = planner_classes()
    if name.lower() not in classes:
        near = difflib.get_close_matches(name.lower(), classes, n=3) or sorted(classes)
        raise planners.PlannerError(f"planner {name!r} is not known. Did you mean {', '.join(near)}?")
    return classes[name.lower()]


def planner_named(name: str, **settings) -> planners.Planner:
    """`planner_named("cem", horizon=20)`; `PlannerError` for a name or a setting that is not there."""
    kind = planner_class(name)
    known = inspect.signature(kind).parameters
    unknown = set(settings) - set(known)
    if unknown:
        raise planners.SettingError(f"{name} has no setting {sorted(unknown)}; it has {sorted(known)}.")
    return kind(**settings)
