"""The doctor: finds what is missing or out of range, says what to do, and never fails for lack of an extra."""

from importlib import metadata

import pytest
from packaging.requirements import Requirement

from benchmarks import doctor

REQUIRES = ["numpy>=2,<3", "no-such-package>=1", "jax>=999", 'matplotlib>=3; extra == "viz"', 'numpy<1; python_version < "3"']


@pytest.fixture
def requires(monkeypatch):
    """Let the installed distribution require `REQUIRES`, and let no rendering backend be found."""
    monkeypatch.setattr(metadata, "requires", lambda _: REQUIRES)
    monkeypatch.setattr(doctor, "extras", lambda: ["viz"])
    monkeypatch.setattr(doctor, "find_rendering_backend", lambda _: (None, ["egl: no library"]))


def test_findings_tell_core_from_extra_and_fit_from_unfit(requires):
    assert [(finding.requirement.name, finding.fits) for finding in doctor.findings()] == [
        ("numpy", True),
        ("no-such-package", False),
        ("jax", False),
    ]
    assert [finding.requirement.name for finding in doctor.findings("viz")] == ["matplotlib"]


def test_dm_control_is_wanted_on_every_python(requires):
    assert [finding.requirement.name for finding in doctor.findings("dmc")] == ["dm-control"]


@pytest.mark.parametrize(("installed", "fits"), [(None, False), ("4.0.0", False), ("3.17.0", True), ("3.18.0rc1", True)])
def test_a_version_out_of_range_does_not_fit(installed, fits):
    assert doctor.Finding(Requirement("mujoco>=3.17,<4"), installed).fits is fits


def test_a_broken_core_fails_and_says_what_to_do(requires, capsys):
    assert doctor.doctor() == 1
    said = capsys.readouterr().out
    assert "no-such-package" in said
    assert "pip install -c constraints.txt -e '.'" in said
    assert "libegl1" in said
    assert "The core works" not in said


def test_a_missing_extra_and_no_rendering_do_not_fail(requires, monkeypatch, capsys):
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy>=2", 'no-such-package; extra == "viz"'])
    assert doctor.doctor() == 0
    said = capsys.readouterr().out
    assert "pip install -c constraints.txt -e '.[viz]'" in said
    assert "The core works" in said


def test_without_the_distribution_it_says_so(monkeypatch, capsys):
    def not_installed(_):
        raise metadata.PackageNotFoundError("sailplan")

    monkeypatch.setattr(metadata, "requires", not_installed)
    monkeypatch.setattr(metadata, "metadata", not_installed)
    monkeypatch.setattr(doctor, "find_rendering_backend", lambda _: ("egl", []))
    assert doctor.doctor() == 1
    assert "sailplan itself is not installed" in capsys.readouterr().out


def test_a_backend_that_does_not_exist_is_named_with_its_reason():
    backend, failures = doctor.find_rendering_backend(["no-such-backend"])
    assert backend is None
    assert len(failures) == 1
    assert failures[0].startswith("no-such-backend: ")
    assert "MUJOCO_GL" in failures[0]


def test_a_blank_frame_is_no_backend(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "raise AssertionError('the frame is blank (variance 0.00)')")
    assert doctor.find_rendering_backend(["egl"]) == (None, ["egl: AssertionError: the frame is blank (variance 0.00)"])


def test_the_users_own_backend_is_tried_first(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert doctor._candidates() == ("osmesa", "egl")
