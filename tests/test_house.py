"""The house's own rules: what an import may do, who may import whom, what is documented, and what no file may hold."""

import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("planners", "worldmodels", "mpc", "benchmarks")
LIBRARIES = "flax.nnx, optax, orbax.checkpoint, chex, mctx, gymnasium, mujoco, rich, tyro"

IMPORT = f"""
import os, sys, threading
import jax, {LIBRARIES}
from jax._src import xla_bridge
before = dict(os.environ), dict(jax.config.values), threading.active_count(), sorted(os.listdir())
import {{package}}
after = dict(os.environ), dict(jax.config.values), threading.active_count(), sorted(os.listdir())
assert after == before, [pair for pair in zip(before, after) if pair[0] != pair[1]]
assert not xla_bridge.backends_are_initialized(), "the import ran something on a device"
"""

FORBIDDEN = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.org|deb\.debian\.org|--(extra-)?index-url[ =]\S|--find-links[ =]\S|/(work|root|home)/\w"
)


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks.cli"])
def test_an_import_does_no_work(package, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + IMPORT.format(package=package)
    tried = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize("package", ["planners", "worldmodels", "mpc"])
def test_a_package_names_what_is_public(package):
    names = list(importlib.import_module(package).__all__)
    assert names
    assert len(set(names)) == len(names)


def _packages():
    for package in map(importlib.import_module, PACKAGES):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.ispkg:
                yield importlib.import_module(found.name)


def _is_undocumented(name, public):
    if not (inspect.isclass(public) or inspect.isfunction(public) or inspect.ismodule(public)):
        return False  # a constant or a type alias
    documentation = (public.__doc__ or "").strip()
    return not documentation or documentation.startswith(f"{name}(")  # the latter is the signature that dataclass writes


def test_every_public_name_is_documented():
    public = [(package, name) for package in _packages() for name in getattr(package, "__all__", ())]
    assert public
    undocumented = [f"{package.__name__}.{name}" for package, name in public if _is_undocumented(name, getattr(package, name))]
    assert not undocumented


def _tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_registry_host_or_a_path_of_one_machine():
    found = {}
    for path in _tracked_files():
        hits = sorted({hit.group() for hit in FORBIDDEN.finditer(path.read_text(encoding="utf-8", errors="ignore"))})
        if hits:
            found[str(path.relative_to(ROOT))] = hits
    assert not found


def _lint_imports(folder):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def _copy_packages(folder):
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))


def test_the_arrows_hold():
    linted = _lint_imports(ROOT)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("planners/problem.py", "import worldmodels.spec"),
        ("worldmodels/spec.py", "import planners.problem"),
        ("planners/plan.py", "import flax"),
        ("mpc/__init__.py", "import benchmarks"),
        ("mpc/__init__.py", "import tests"),
    ],
)
def test_a_broken_arrow_is_noticed(tmp_path, module, line):
    _copy_packages(tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    assert "BROKEN" in _lint_imports(tmp_path).stdout


def test_the_constraints_pin_every_requirement_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for extra, texts in extras.items() if extra != "peers" for text in texts)]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in map(Requirement, wanted):
        versions = [next(iter(pin.specifier)).version for pin in pins if pin.name.lower() == requirement.name.lower()]
        assert versions, f"{requirement.name} is not in constraints.txt: run make constraints"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


def test_the_changelog_tells_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
