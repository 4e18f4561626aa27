"""`sailplan doctor`: versions, devices, rendering, and what to install where something is missing."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import jax
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import provenance

INSTALL = "pip install -c constraints.txt -e '.{extra}'"
WITHOUT_DEPENDENCIES = "pip install --no-deps -c constraints.txt dm-control"
RENDERING_HINT = (
    "for video: on Debian, apt-get install libegl1 libgl1 (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa); "
    "all else works without"
)
BACKENDS = ("egl", "osmesa")
PROBE = """
import mujoco
xml = '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1"/><geom type="sphere" size=".2"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(xml)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 64, 64) as renderer:
    renderer.update_scene(data)
    variance = renderer.render().var()
assert variance > 1, f"the frame is blank (variance {variance:.2f})"
"""


@dataclass(frozen=True)
class Finding:
    """One requirement against what is installed."""

    requirement: Requirement
    installed: str | None

    @property
    def fits(self) -> bool:
        """Installed, and of a version in range."""
        return self.installed is not None and self.requirement.specifier.contains(self.installed, prereleases=True)

    def __str__(self) -> str:
        return f"{self.requirement.name} {self.installed or 'missing'}"


def doctor() -> int:
    """Print what is here and what to do. Returns 0 where the core works, 1 where it does not; extras and rendering may lack."""
    console = Console()
    advice: list[str] = []
    core_fits = _print_core(console, advice)
    _print_extras(console, advice)
    device_works = _print_machine(console, advice)
    backend, failures = find_rendering_backend(_candidates())
    console.print(f"rendering   {backend or 'none: ' + escape('; '.join(failures))}", soft_wrap=True)
    if backend is None:
        advice.append(RENDERING_HINT)
    for line in advice:
        console.print(f"[yellow]→[/] {escape(line)}", highlight=False, soft_wrap=True)
    if core_fits and device_works:
        console.print("[green]The core works.[/]")
    return 0 if core_fits and device_works else 1


def findings(extra: str = "") -> list[Finding]:
    """What the core (or one extra, by name) requires on this Python, against what is installed. Empty where unknown."""
    try:
        texts = metadata.requires("sailplan") or []
    except metadata.PackageNotFoundError:
        return []
    requirements = [requirement for requirement in map(Requirement, texts) if _belongs(requirement, extra)]
    if extra == "dmc" and "dm-control" not in {requirement.name for requirement in requirements}:
        requirements.append(Requirement("dm-control>=1.0.50,<2"))  # needed on every Python; see pyproject.toml
    return [Finding(requirement, provenance.installed_version(requirement.name)) for requirement in requirements]


def extras() -> list[str]:
    """Names of the extras of the installed distribution; none where it is not installed."""
    try:
        return metadata.metadata("sailplan").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


def find_rendering_backend(backends: Sequence[str] = BACKENDS) -> tuple[str | None, list[str]]:
    """The first value of MUJOCO_GL that renders a frame with something on it, and why those before it did not.

    Each is tried in a process of its own: MuJoCo binds its backend for good when it is imported.
    """
    failures = []
    for backend in backends:
        environment = {**os.environ, "MUJOCO_GL": backend}
        try:
            tried = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            failures.append(f"{backend}: no frame within 120 s")
            continue
        if tried.returncode == 0:
            return backend, failures
        last_line = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]
        failures.append(f"{backend}: {last_line}")
    return None, failures


def _candidates() -> tuple[str, ...]:
    chosen = os.environ.get("MUJOCO_GL", "")
    return tuple(dict.fromkeys((chosen, *BACKENDS))) if chosen else BACKENDS


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    in_core = marker is None or marker.evaluate({"extra": ""})
    if not extra:
        return in_core
    return not in_core and marker is not None and marker.evaluate({"extra": extra})


def _print_core(console: Console, advice: list[str]) -> bool:
    core = findings()
    if not core:
        advice.append(f"sailplan itself is not installed, so its requirements are unknown: {INSTALL.format(extra='')}")
    table = Table("core", "installed", "wanted", box=None)
    for finding in core:
        colour = "green" if finding.fits else "red"
        wanted = escape(str(finding.requirement.specifier))
        table.add_row(finding.requirement.name, f"[{colour}]{finding.installed or 'missing'}[/]", wanted)
    console.print(table)
    console.print()
    if not all(finding.fits for finding in core):
        advice.append(f"the core is incomplete or out of range: {INSTALL.format(extra='')}")
    return bool(core) and all(finding.fits for finding in core)


def _print_extras(console: Console, advice: list[str]) -> None:
    table = Table("extra", "packages", box=None)
    incomplete = []
    for extra in extras():
        found = findings(extra)
        unfit = [finding.requirement.name for finding in found if not finding.fits]
        table.add_row(extra, ", ".join(str(finding) if finding.fits else f"[red]{finding}[/]" for finding in found))
        if unfit == ["dm-control"] and sys.version_info >= (3, 13):
            advice.append(f"for dm_control tasks: {WITHOUT_DEPENDENCIES}")
        elif unfit and extra != "peers":  # other people's planners want an environment of their own
            incomplete.append(extra)
    if incomplete:
        command = INSTALL.format(extra=f"[{','.join(incomplete)}]")
        advice.append(f"for {', '.join(incomplete)} (all optional): {command}")
    console.print(table)
    console.print()


def _print_machine(console: Console, advice: list[str]) -> bool:
    console.print(f"python      {platform.python_version()} ({sys.executable})", highlight=False, soft_wrap=True)
    console.print(f"commit      {provenance.commit()}", highlight=False)
    try:
        devices = ", ".join(str(device) for device in jax.devices())
        machine = provenance.machine()
        works = float(jax.jit(lambda x: (x * x).sum())(jax.numpy.arange(4.0))) == 14.0
    except RuntimeError as error:
        console.print(f"jax         [red]{escape(str(error))}[/]")
        advice.append("JAX starts no device: unset JAX_PLATFORMS, or install the jaxlib that suits the accelerator")
        return False
    console.print(f"jax         {devices}", highlight=False)
    console.print(
        f"machine     {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['platform']}",
        soft_wrap=True,
    )
    return works
