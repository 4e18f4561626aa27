"""Figures as a JSON file that strict readers take."""

import json
import math
from pathlib import Path
from typing import Any

from worldmodels.files import write_aside


def write_json(path: Path, content: Any) -> None:
    """Put `content` at `path`, numbers that are not finite as null."""
    write_aside(path, json.dumps(finite(content), indent=1, allow_nan=False).encode())


def finite(value: Any) -> Any:
    """`value` with null, which JSON has, where it holds a number that is not finite."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
