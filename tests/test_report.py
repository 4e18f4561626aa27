"""The report stands alone, shows every row, and says what is missing."""

import json
import math
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks import plots
from benchmarks.report import ReportError, write_report
from benchmarks.report_curves import updates_so_far

ROWS = (
    ("random", 31.0, 12.0, 0.004, 0.009),
    ("simulator", 846.0, 8.0, 61.3, 80.1),
    ("CEM on JEPA", 791.0, 24.0, 52.7, 66.0),
    ("gradient on JEPA", 742.0, 41.0, 8.9, 11.2),
    ("policy (distilled)", 768.0, 30.0, 0.041, 0.066),
)
NAMES = ("position[0]", "position[1]", "position[2]", "velocity[0]", "velocity[1]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "demo", names=NAMES[:2])


def write_run(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """A run as the demo leaves one, with invented but plausible figures."""
    (folder / "videos").mkdir(parents=True)
    rows = [
        {"name": name, "return_mean": mean, "return_ci95": ci, "episodes": 5, "decision_ms_p50": p50, "decision_ms_p99": p99}
        for name, mean, ci, p50, p99 in ROWS
    ]
    rows[1]["note"] = "read from benchmarks/results/demo.jsonl"
    summary = {
        "task": "dm_control/cartpole-swingup-v0",
        "frames": 18600,
        "wall_seconds": {"collect": 61.0, "train": 212.0, "plan": 74.0, "distil": 38.0, "total": 392.0},
        "rows": rows,
        "commit": "feb2eab0c0ffee",
        "versions": {"jax": "0.10.2", "mujoco": "3.17.0", "python": "3.11.2"},
        "machine": {"cpu": "a processor", "cores": 2},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in _progress()))
    (folder / "open_loop.json").write_text(json.dumps(_open_loop(names)))
    (folder / "plans.json").write_text(json.dumps({"planners": _plans()}))
    for kind in ("random", "simulator", "cem", "policy"):
        _write_gif(folder / "videos" / f"{kind}.gif")
    return folder


def _progress() -> list[dict]:
    generator, events = np.random.default_rng(0), []
    for number in range(1, 8):
        frames = 5000 + 2000 * (number - 1)
        mean = 800 / (1 + math.exp(-(number - 3.5))) + 30
        returns = [float(value) for value in generator.normal(mean, 60, size=5 if number == 1 else 2)]
        events.append({"event": "round", "round": number, "frames": frames, "seconds": 50.0 * number,
                       "return_mean": float(np.mean(returns)), "returns": returns})  # fmt: skip
        for update in range(100, 1100, 100):
            fade = math.exp(-(update + 1000 * number) / 2500)
            losses = {"prediction": 0.01 + 0.4 * fade, "variance": 0.02 + 0.3 * fade**2, "covariance": 0.05 + 0.1 * fade,
                      "readout": 0.003 + fade, "cost": 0.001 + 0.2 * fade}  # fmt: skip
            losses = {name: value * float(generator.lognormal(0, 0.1)) for name, value in losses.items()}
            events.append({"event": "train", "round": number, "frames": frames, "update": update, "seconds": 1.0 * update,
                           "losses": losses, "effective_rank": 30 * (1 - fade)})  # fmt: skip
    events += [
        {"event": "distil", "update": update, "loss": 0.2 * math.exp(-update / 900) + 0.01} for update in range(100, 3000, 100)
    ]
    return events


def _open_loop(names: Sequence[str]) -> dict:
    horizon, step = list(range(1, 26)), 0.04
    time = [index * step for index in range(26)]
    examples = []
    for phase in (0.0, 1.1)[: len(names) - 1]:
        real = {name: [math.sin(3 * t + k + phase) for t in time] for k, name in enumerate(names)}
        predicted = {name: [math.sin(3 * t + k + phase) + 0.12 * t**2 for t in time] for k, name in enumerate(names)}
        examples.append({"time": time, "real": real, "predicted": predicted})
    return {
        "seconds_per_step": step,
        "names": list(names),
        "horizon": horizon,
        "error": {name: [0.004 * h**1.2 for h in horizon] for name in names},
        "copy_last_error": {name: [0.05 * h**0.8 for h in horizon] for name in names},
        "examples": examples,
    }


def _plans() -> list[dict]:
    return [
        {"name": "CEM on JEPA", "best_cost": [-3.1, -7.9, -9.6, -10.3], "decision_ms_p50": 52.7},
        {
            "name": "gradient on JEPA",
            "best_cost": [-2.0 - 7.5 * (1 - math.exp(-k / 4)) for k in range(16)],
            "decision_ms_p50": 8.9,
        },
    ]


def _write_gif(path: Path) -> None:
    frames = []
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        image = Image.new("RGB", (240, 180), "#35506b")
        draw = ImageDraw.Draw(image)
        draw.rectangle((100, 100, 140, 116), fill="#d8b36a")
        draw.line((120, 108, 120 + 60 * np.sin(angle), 108 - 60 * np.cos(angle)), fill="#e9e2d0", width=5)
        frames.append(image)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0)


class Page(HTMLParser):
    """What the tests ask of a page: tags balance, which resources it names, what its text says."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.resources: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.resources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_stands_alone(folder):
    page = Page(write_report(folder))
    assert page.open == []
    assert "http" not in page.source.lower()
    assert page.resources
    assert all(resource.startswith(("data:image/gif;base64,", "#")) for resource in page.resources)
    assert "script" not in page.tags
    assert page.tags.count("img") == 4
    assert [path.name for path in folder.iterdir() if "aside" in path.name] == []


def test_shows_every_row_and_the_best_learned_one(folder):
    page = Page(write_report(folder))
    for text in ("Random actions", "iCEM on the true simulator", "CEM on JEPA", "Gradient on JEPA", "Policy (distilled)"):
        assert text in page.text
    assert "791 ± 24" in page.text  # not the simulator's 846, which nobody learned
    assert "read from benchmarks/results/demo.jsonl" in page.text
    assert "6 min 32 s" in page.text
    assert "93 %" in page.text  # 791 of 846
    for name in NAMES[:2]:
        assert name in page.text
    assert "jax 0.10.2" in page.text


def test_last_error_against_copying_is_stated(folder):
    write_report(folder)
    share = 100 * 0.004 * 25**1.2 / (0.05 * 25**0.8)  # every quantity alike
    assert f"{share:.0f} %" in Page(folder / "report.html").text


def test_says_what_is_missing(folder):
    for path in (folder / "videos").iterdir():
        path.unlink()
    for name in ("summary.json", "progress.jsonl", "open_loop.json", "plans.json"):
        (folder / name).unlink()
    page = Page(write_report(folder))
    for sentence in ("the run has not ended", "Nothing was evaluated", "No learning curves", "No open-loop predictions", "not compared",
                     "rendering backend", "libegl1", "no wall times", "neither commit"):  # fmt: skip
        assert sentence in page.text


@pytest.mark.parametrize("missing", ["summary.json", "open_loop.json"])
def test_one_missing_file_leaves_the_rest(folder, missing):
    (folder / missing).unlink()
    text = Page(write_report(folder)).text
    assert "Training losses." in text
    assert ("Error against horizon" in text) == (missing == "summary.json")
    assert ("791 ± 24" in text) == (missing == "open_loop.json")


def test_empty_folder_and_damaged_files(tmp_path):
    (tmp_path / "summary.json").write_text('{"task": "cut o')
    (tmp_path / "progress.jsonl").write_text('{"event": "round", "frames": 100, "return_mean": 12.0}\n{"event": "rou')
    page = Page(write_report(tmp_path))
    assert tmp_path.name in page.text
    assert "Return of the collected episodes." in page.text
    with pytest.raises(ReportError, match="nowhere"):
        write_report(tmp_path / "nowhere")


def test_escapes_names(folder):
    evil = "<script>alert('x')</script>"
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {"task": evil, "machine": evil, "rows": [summary["rows"][0] | {"name": evil, "note": evil}]}
    (folder / "summary.json").write_text(json.dumps(summary))
    data = json.loads((folder / "open_loop.json").read_text())
    data["names"] = [evil]
    data["error"] = data["copy_last_error"] = {evil: data["error"][NAMES[0]]}
    data["examples"] = [{"time": [0.0, 1.0], "real": {evil: [0.0, 1.0]}, "predicted": {evil: [0.0, 2.0]}}]
    (folder / "open_loop.json").write_text(json.dumps(data))
    (folder / "plans.json").write_text(json.dumps({"planners": [{"name": evil, "best_cost": [1.0]}]}))
    page = Page(write_report(folder))
    assert "script" not in page.tags
    assert evil in page.text


def test_unmeasured_and_not_finite_values(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["rows"][2] |= {"return_mean": float("nan"), "return_ci95": None, "decision_ms_p50": None}
    del summary["wall_seconds"]
    (folder / "summary.json").write_text(json.dumps(summary))
    page = Page(write_report(folder))
    assert "not finite" in page.text
    assert "768 ± 30" in page.text  # the best of what can be ranked


def test_updates_count_on_through_rounds():
    events = [{"event": "train", "update": update} for update in (100, 200, 100, 200, 50)]
    assert updates_so_far(events) == [100, 200, 300, 400, 450]


def test_every_loss_has_its_own_look():
    looks = [tuple(plots.distinct(index).values()) for index in range(8)]
    assert len(set(looks)) == 8


def test_bars_below_zero_say_their_values_too():
    svg = plots.bar_panel(["dear", "cheap"], [-20.0, -10.0], plots.Axis("return"), texts=["minus twenty", "minus ten"])
    assert "minus twenty" in svg and "minus ten" in svg


def test_losses_that_a_logarithm_cannot_show(folder):
    events = [
        {"event": "train", "update": i, "losses": {"a": value, "b": 0.0}} for i, value in enumerate((1.0, math.nan, -2.0, 3.0))
    ]
    (folder / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert "Training losses." in Page(write_report(folder)).text


def test_without_matplotlib_nothing_is_written(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plots.MissingExtraError, match=r"pip install 'sailplan\[viz\]'"):
        write_report(folder)
    assert not (folder / "report.html").exists()
