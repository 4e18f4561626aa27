"""Where a measurement came from: the commit, the versions and the machine that every result line names."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
MEASURED = (
    "sailplan",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "gymnasium",
    "mujoco",
    "dm-control",
    "torch",
    "pytorch-mppi",
    "stable-worldmodel",
)


def commit() -> str:
    """The short git hash of this checkout, with `-dirty` where a Python file differs from it; `unknown` outside a checkout.

    What SAILPLAN_COMMIT says comes first, for code that was sent to another machine without its history or with an older one.
    """
    if said := os.environ.get("SAILPLAN_COMMIT"):
        return said
    if not (ROOT / ".git").exists():
        return "unknown"
    head = _git("rev-parse", "--short", "HEAD")
    if head is None or head.returncode != 0:
        return "unknown"
    changed = _git("status", "--porcelain", "--", "*.py")
    return head.stdout.strip() + ("-dirty" if changed is not None and changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Python and the installed packages that change results, by name. What is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in MEASURED:
        installed = installed_version(name)
        if installed is not None:
            found[name] = installed
    return found


def machine() -> dict[str, str | int | float | None]:
    """CPU model, usable cores, memory in GB, platform, and the accelerator's name (None on a CPU). Starts JAX's backend."""
    device = jax.devices()[0]
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "accelerator": None if device.platform == "cpu" else device.device_kind,
    }


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Cores this process may use; fewer than the machine has where an affinity is set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
