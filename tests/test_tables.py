"""Tables and plots of the documentation come from the result files and from nothing else."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import model_tables, plots, table_text, tables
from benchmarks.model_plots import plot_futures, plot_returns, plot_training, plot_widths
from benchmarks.provenance import ROOT
from benchmarks.speed_plot import plot_speed
from benchmarks.tables import TableError, update

CELL = {"task": "dm_control/cartpole-swingup-v0", "settings": {}, "seed": 0, "frames": 18600, "minutes": 1.0, "commit": "abc1234-dirty",
        "versions": {"jax": "0.10.2"}, "machine": {"cpu": "A Processor", "cores": 2, "accelerator": None}}  # fmt: skip
PAGE = "# Title\n\n<!-- table: {name} -->\nold\n<!-- end table -->\n\nAfterwards.\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    demo = [
        {
            "method": method,
            "return_mean": mean,
            "return_ci95": 12.4,
            "episodes": 5,
            "decision_ms_p50": p50,
            "decision_ms_p99": 2 * p50,
        }
        for method, mean, p50 in (("policy", 768.2, 0.041), ("cem", 791.0, 52.71), ("random", 31.0, 0.0042))
    ]
    speed = [
        {"task": "512 × 20 × 6", "method": "cem", "ms_p50": 48.04, "ms_p99": 61.0, "model_steps_per_second": 1278772.1,
         "roofline_fraction": 0.623, "speedup_over_fastest_peer": 1.853},
        {"task": "512 × 20 × 6", "method": "peer|one", "ms_p50": 89.0, "ms_p99": 104.0},
    ]  # fmt: skip
    planners = [
        {
            "model": "jepa",
            "method": method,
            "seed": seed,
            "return_mean": value,
            "decision_ms_p50": 10.0,
            "model_evaluations": 20480,
        }
        for method, values in (("cem", (700.0, 760.0, 730.0)), ("mppi", (650.0, math.nan)))
        for seed, value in enumerate(values)
    ]
    for name, lines in (("demo", demo), ("speed", speed), ("planners", planners)):
        text = "".join(json.dumps(CELL | {"benchmark": name} | line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def written(tmp_path: Path, name: str, results: Path) -> list[str]:
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(name=name))
    assert update([page], results=results) == [page]
    lines = page.read_text().splitlines()
    assert lines[0] == "# Title"
    assert lines[-1] == "Afterwards."
    return lines[lines.index(f"<!-- table: {name} -->") + 1 : lines.index("<!-- end table -->")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def test_demo_rows_stand_in_the_demo_s_order(tmp_path, results):
    lines = written(tmp_path, "demo", results)
    rows = [cells(line) for line in lines if line.startswith("|")][2:]
    assert [row[1] for row in rows] == ["Random actions", "CEM on the JEPA", "Distilled policy"]
    assert rows[1] == ["dm_control/cartpole-swingup-v0", "CEM on the JEPA", "18,600", "791 ± 12", "5", "52.7", "105"]
    assert rows[2][-2:] == ["0.041", "0.082"]
    assert "abc1234-dirty" in lines[-1]
    assert "A Processor, 2 cores" in lines[-1]


def test_speed(tmp_path, results):
    lines = written(tmp_path, "speed", results)
    assert cells(lines[2]) == ["512 × 20 × 6", "cem", "48.0", "61.0", "1,278,772", "62 %", "1.9×"]
    assert "peer\\|one" in lines[3]
    assert lines[3].count("—") == 3


def test_planners_are_averaged_over_seeds(tmp_path, results):
    lines = written(tmp_path, "planners", results)
    row = cells(lines[2])
    half = 4.302653 * 30 / math.sqrt(3)  # Student's t with two degrees of freedom; the values' standard deviation is 30
    assert row[2:] == ["cem", f"730 ± {half:.0f}", "10.0", "20,480", "3"]
    assert "Cost" not in lines[0]  # nothing measured it


def test_planners_at_equal_work_stand_side_by_side():
    def line(task, model, method, trajectories, **measured):
        settings = {"trajectories": trajectories}
        return CELL | {"task": task, "model": model, "method": method, "settings": settings, **measured}

    text = tables.planners_short(
        [
            line("key-and-door", "analytic", "treesearch", 512, regret_mean=0.5, regret_ci95=0.25, return_mean=7.0),
            line("key-and-door", "analytic", "treesearch", 4096, regret_mean=0.0, regret_ci95=0.0),
            line("reacher-easy", "jepa", "icem", 64, return_mean=900.0, return_ci95=20.0),
            line("reacher-easy", "jepa", "icem", 1024, return_mean=999.0, return_ci95=0.0),
        ]
    )
    rows = {cells(row)[0]: cells(row)[1:] for row in text.splitlines() if row.startswith("|")}
    assert rows["Planner"] == ["key-and-door, analytic", "reacher-easy, jepa"]
    assert rows["treesearch"] == ["0.50 ± 0.25", "—"]
    assert rows["icem"] == ["—", "900 ± 20"]


def shown(table: str) -> list[dict[str, str]]:
    """The rows of a table by their headings."""
    heads, _, *rows = [cells(line) for line in table.splitlines() if line.startswith("|")]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def test_models_stand_beside_what_they_are_compared_with():
    def line(method, condition, hidden, value, seed=0):
        settings = {"hidden": hidden}
        return CELL | {"method": method, "condition": condition, "return_mean": value, "settings": settings, "seed": seed}

    noisy = shown(
        model_tables.distractors(
            [
                line("vicreg", "4 × as many", 128, 570.0),
                line("vicreg", "clean", 64, 100.0),
                line("vicreg", "clean", 128, 590.0),
                line("vicreg", "clean", 128, 610.0, seed=1),
                line("barlow", "1 × as many", 128, 300.0),
            ]
        )
    )
    assert [(row["Objective"], row["Hidden"], row["Condition"]) for row in noisy] == [
        ("barlow", "128", "1 × as many"),
        ("vicreg", "128", "clean"),
        ("vicreg", "128", "4 × as many"),
        ("vicreg", "64", "clean"),
    ]
    assert [row["Of the clean return"] for row in noisy] == ["—", "100 %", "95 %", "100 %"]
    assert [row["Seeds"] for row in noisy] == ["1", "2", "1", "1"]
    hidden = [CELL | {"method": m, "condition": "", "return_mean": v} for m, v in (("full-state", 600.0), ("stack", 450.0))]
    assert [row["Of the full state's"] for row in shown(model_tables.partial(hidden))] == ["100 %", "75 %"]


def test_exploration_is_compared_on_the_seeds_that_both_have():
    measured = [("disagreement", 1, 0.8), ("pink", 1, 0.6), ("pink", 2, 0.2), ("random", 1, 0.4)]
    for more, expected in (([], ("0.8", "0.6", "0.400", "1")), ([("disagreement", 2, 0.8)], ("0.8", "0.4", "—", "2"))):
        lines = [CELL | {"method": method, "seed": seed, "coverage": value} for method, seed, value in measured + more]
        (row,) = shown(model_tables.exploration(lines))  # what was not measured has no row
        assert (row["Disagreement"][:3], row["Pink noise"][:3], row["White noise"], row["Seeds"]) == expected


def test_updates_and_loaders_have_tables_of_their_own():
    lines = [CELL | {"method": method, "updates_per_second": 10.0} for method in ("sailplan", "pytorch", "device", "loader")]
    assert [row["Method"] for row in shown(model_tables.training(lines))] == ["sailplan", "pytorch"]
    assert [row["Method"] for row in shown(model_tables.training_loader(lines))] == ["device", "loader"]
    assert model_tables.training_loader(lines[:2]) == "*No results yet.*"


def test_the_speed_plot_shows_workloads_with_peers(tmp_path):
    lines = [
        CELL | {"task": task, "method": method, "ms_p50": milliseconds, "ms_p99": 1.2 * milliseconds}
        for task in ("latent64-hidden256", "latent512-hidden512")
        for method, milliseconds in (("cem", 50.0), ("pytorch-mppi", 90.0))
    ]
    alone = [CELL | {"task": "lonely", "method": "cem", "ms_p50": 1.0, "ms_p99": 2.0}]
    text = plot_speed([*lines, *alone], tmp_path / "images" / "speed.svg").read_text()
    for name in ("latent64, hidden256", "latent512, hidden512", "pytorch-mppi", "decision, ms"):
        assert name in text
    assert "lonely" not in text
    with pytest.raises(ValueError, match="Install the peers"):
        plot_speed(alone, tmp_path / "none.svg")


def test_a_failed_seed_is_not_left_out(tmp_path, results):
    assert "not finite" in written(tmp_path, "planners", results)[3]


def test_check_names_stale_files_and_writes_nothing(tmp_path, results):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(name="demo"))
    before = page.read_text()
    assert update([page], check=True, results=results) == [page]
    assert page.read_text() == before
    update([page], results=results)
    assert update([page], check=True, results=results) == []
    assert [path.name for path in tmp_path.iterdir() if "aside" in path.name] == []


def test_no_results_yet(tmp_path):
    assert written(tmp_path, "demo", tmp_path) == ["*No results yet in `benchmarks/results/demo.jsonl`.*"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PAGE.format(name="dmeo"),
            r"line 3: unknown table 'dmeo'. Known tables: .*control, .*demo, .*speed",
        ),
        ("<!-- table: demo -->\nrows\n", "never closed"),
        ("<!-- table: demo -->\n<!-- table: speed -->\n<!-- end table -->\n", "line 2.*still open"),
        ("text\n<!-- end table -->\n", "line 2.*closes nothing"),
    ],
)
def test_bad_markers(tmp_path, results, text, message):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(PAGE.format(name="demo"))
    bad.write_text(text)
    with pytest.raises(TableError, match=message):
        update([good, bad], results=results)
    assert good.read_text() == PAGE.format(name="demo")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TableError, match=r"nowhere\.md"):
        update([tmp_path / "nowhere.md"])


def test_the_committed_pages_have_only_known_tables():
    pages = [page for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if page.exists()]
    assert set(update(pages, check=True)) <= set(pages)


@pytest.mark.parametrize(
    ("value", "significant", "text"),
    [(None, 3, "—"), (math.nan, 3, "not finite"), (0.00421, 3, "0.00421"), (52.71, 3, "52.7"), (1234.5, 2, "1,234"), (0, 3, "0"),
     (0.04, 3, "0.04"), (18600.0, None, "18,600"), (-9.96, 2, "-10.0")],
)  # fmt: skip
def test_numbers(value, significant, text):
    assert table_text.number(value, significant) == text


def test_planner_plot_has_a_panel_for_each_task_and_a_name_for_each_method(tmp_path):
    lines = [
        CELL | {"task": task, "model": "jepa", "method": method, "settings": {"samples": samples}, "seed": seed,
                "cost_mean": 3.0 / samples + seed, "decision_ms_p50": 0.1 * samples, "model_evaluations": 20 * samples}
        for task in ("pendulum", "reacher") for method in ("cem", "gradient") for samples in (16, 64, 256) for seed in (0, 1)
    ]  # fmt: skip
    path = plots.plot_planners(lines, tmp_path / "images" / "planners.svg")
    text = path.read_text()
    for name in ("pendulum", "reacher", "cem", "gradient", "decision time, ms", "model evaluations", "cost reached"):
        assert name in text
    assert [each.name for each in path.parent.iterdir()] == ["planners.svg"]
    with pytest.raises(ValueError, match="nothing to plot"):
        plots.plot_planners([CELL], tmp_path / "none.svg")


def test_futures_are_ordered_by_codes_under_the_world_and_drawn(tmp_path):
    shared = CELL | {"task": "strait", "modes_covered": 0.5, "between": 0.25}
    lines = [
        shared | {"method": "z", "condition": f"{codes} codes", "settings": {"noise_size": codes}, "success_rate": 0.5 + seed / 4,
                  "return_mean": -10.0, "seed": seed}
        for codes in (16, 2) for seed in (0, 1)
    ]  # fmt: skip
    lines += [shared | {"method": "deterministic", "condition": "no z", "success_rate": 0.0, "return_mean": -30.0}]
    lines += [shared | {"method": "world", "condition": "the world itself", "success_rate": 1.0, "return_mean": -2.0}]
    missed = {row["Latent variable"]: row["Rocks missed"] for row in shown(model_tables.futures(lines))}
    assert list(missed) == ["the world itself", "no z", "2 codes", "16 codes"]
    assert missed["2 codes"] == "62.5 %" and missed["the world itself"] == "100 %"
    text = plot_futures(lines, tmp_path).read_text()
    assert all(name in text for name in ("rocks missed", "ends covered", "codes of z"))


def test_widths_are_drawn_where_several_were_measured_and_training_by_its_cores(tmp_path):
    swept = [CELL | {"method": method, "condition": "clean", "settings": {"hidden": width}, "return_mean": 1.0 * width}
             for method, widths in (("vicreg", (64, 128)), ("barlow", (128,))) for width in widths]  # fmt: skip
    text = plot_widths(swept, tmp_path / "widths.svg").read_text()
    assert "vicreg, clean" in text and "barlow" not in text
    timed = [CELL | {"task": "small", "method": method, "updates_per_second": 10.0, "machine": CELL["machine"] | {"cores": cores}}
             for method in ("sailplan", "pytorch", "loader") for cores in (1, 2)]  # fmt: skip
    text = plot_training(timed, tmp_path).read_text()
    assert "sailplan, 1 cores" in text and "pytorch, 2 cores" in text and "loader" not in text
    rows = shown(model_tables.training(timed))
    assert sorted(row["Method"] + row["Cores"] for row in rows) == ["pytorch1", "pytorch2", "sailplan1", "sailplan2"]


def test_returns_are_bars_by_condition(tmp_path):
    lines = [CELL | {"method": "state", "condition": "state", "return_mean": 700.0, "return_ci95": 20.0},
             CELL | {"method": "pixels", "condition": "64 × 64 pixels", "return_mean": 630.0, "return_ci95": 20.0}]  # fmt: skip
    text = model_tables.pixels(lines)
    assert "| pixels | 64 × 64 pixels | 630 ± 20 | 90 % |" in text and "| state | state | 700 ± 20 | 100 % |" in text
    assert "64 × 64 pixels" in plot_returns(lines, tmp_path / "pixels.svg").read_text()
    assert "pixels, 64 × 64 pixels" in plot_returns(lines, tmp_path / "both.svg", by=("method", "condition")).read_text()
