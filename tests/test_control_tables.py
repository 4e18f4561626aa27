"""Tables of the learning agent: per machine, beside published figures, each on the episodes that it shares."""

import pytest

from benchmarks import control_tables
from benchmarks.control_plot import plot_control


def rows_of(text):
    return {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in text.splitlines() if "|" in row
    }


def control_line(task, method, frames, value, seed=0, accelerator=None):
    said = {"seed": seed, "settings": {}, "return_ci95": 5.0, "minutes": frames / 1000, "machine": {"accelerator": accelerator}}
    return {"task": f"dm_control/{task}-v0", "method": method, "frames": frames, "return_mean": value, **said}


def test_control_has_a_table_for_each_kind_of_machine_and_pictures(tmp_path):
    lines = [control_line("cheetah-run", "random", 0, 10.0, accelerator="Chip")]
    lines += [control_line("cheetah-run", "planner", 25_000, value, seed) for seed, value in enumerate((200.0, 300.0))]
    lines += [control_line("cheetah-run", "planner", at, at / 100, accelerator="Chip") for at in (25_000, 50_000)]
    chip, core = control_tables.control(lines).split("On one Chip")
    assert rows_of(chip)["cheetah-run"][:3] == ["10 ± 5", "250 ± 5", "500 ± 5"]
    assert rows_of(core)["cheetah-run"][0] == "10 ± 5"
    assert rows_of(core)["cheetah-run"][1].startswith("250 ± ")
    assert "25 to 25" in core
    assert rows_of(control_tables.short_control(lines))["Task"][:2] == ["Random", "Planner, 50,000"]
    equal = [*lines, *(control_line("cheetah-run", "planner", 50_000, value) for value in (500.0, 600.0))]  # the newest counts
    assert rows_of(control_tables.short_control(equal))["cheetah-run"][1] == "600 ± 5"
    more = [*equal, control_line("walker-run", "planner", 50_000, 1.0, accelerator="Chip")]
    assert rows_of(control_tables.short_control(more))["walker-run"][1] == "1.00 ± 5.00"
    other = {**control_line("x", "planner", 25_000, -4.0), "task": "Reacher-v5"}
    assert "Reacher-v5" not in control_tables.control([*lines, other])
    alone = rows_of(control_tables.gymnasium([*lines, other]))
    assert list(alone) == ["Task", "---", "Reacher-v5"]
    assert alone["Reacher-v5"][0] == "-4.00 ± 5.00"
    pictures = plot_control(lines, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["control-frames.svg", "control-minutes.svg"]
    for picture in pictures:
        text = picture.read_text()
        for name in ("cheetah-run", "planner, Chip", "tdmpc2, 100,000 frames"):
            assert name in text


def test_policies_stand_beside_their_planner_on_the_same_episodes():
    def line(method, returns, seed=0):
        value = sum(returns) / len(returns)
        return {**control_line("cheetah-run", method, 50_000, value, seed), "returns": returns, "decision_ms_p50": 0.2}

    lines = [
        control_line("cheetah-run", "planner", 25_000, 1.0),
        line("planner", [100.0, 300.0]),
        line("policy", [98.0, 298.0]),
    ]
    rows = rows_of(control_tables.policies([*lines, line("compiled", [50.0, 350.0])]))
    assert rows["cheetah-run"] == ["-1.0 ± 0.0 %", "+0.0 ± 317.7 %", "0.20", "0.20"]  # 12.706 · 50 / 200, both by 50 from 0
    assert rows["above −5%"][:2] == ["1 of 1", "0 of 1"]


def test_surprise_stands_beside_learning_always():
    def line(method, value, updates):
        return {**control_line("cheetah-run", method, 1, value), "updates": updates, "return_before": 500.0}

    rows = control_tables.surprise([line("always", 400.0, 900), line("surprised", 380.0, 300), line("never", 200.0, 0)])
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines() if row.startswith("| cheetah")]
    assert [cell[2:7] for cell in cells] == [
        ["always", "500", "400 ± 5", "100 %", "100 %"],
        ["surprised", "500", "380 ± 5", "95.0 %", "33.3 %"],
        ["never", "500", "200 ± 5", "50.0 %", "0 %"],
    ]


def test_ablations_stand_beside_the_whole():
    def line(method, value):
        made = control_line("cheetah-run", method, 1, value)
        return {**made, "settings": {"without": f"no {method}"}}

    other = {**line("whole", 900.0), "frames": 2}  # another budget is another cell
    rows = control_tables.ablations([line("unseeded", 300.0), other, line("whole", 400.0)])
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines() if row.startswith("| cheetah")]
    assert [cell[1:6] for cell in cells] == [
        ["1", "unseeded", "no unseeded", "300 ± 5", "75.0 %"],
        ["1", "whole", "no whole", "400 ± 5", "100 %"],
        ["2", "whole", "no whole", "900 ± 5", "100 %"],
    ]


def test_the_interquartile_mean_leaves_out_the_quarters_and_resamples_within_tasks():
    cells = [
        [{"return_mean": value} for value in values] for values in ((0.0, 10.0), (20.0, 30.0), (40.0, 50.0), (60.0, 900.0))
    ]
    found, interval = control_tables.interquartile_mean(cells)
    assert found == pytest.approx((20 + 30 + 40 + 50) / 4)
    assert interval is not None and 0 < interval < 15
    assert control_tables.interquartile_mean([cells[0][:1], cells[1]]) == (pytest.approx(50 / 3), None)
    assert control_tables.interquartile_mean([[], cells[1]]) == (None, None)


def test_control_stands_beside_published_figures_and_averages_complete_columns_only():
    text = control_tables.control(
        [
            control_line("cheetah-run", "random", 0, 10.0),
            control_line("walker-walk", "random", 0, 30.0),
            control_line("cheetah-run", "planner", 10_000, 200.0),
            control_line("walker-walk", "planner", 10_000, 400.0),
            control_line("cheetah-run", "planner", 25_000, 300.0),
        ]
    )
    rows = rows_of(text)
    assert rows["Task"][:3] == ["Random", "Planner, 10,000", "Planner, 25,000"]
    assert rows["cheetah-run"][:3] == ["10 ± 5", "200 ± 5", "300 ± 5"]
    assert rows["mean"][:3] == ["20 ± 4", "300 ± 4", "—"]  # √(5² + 5²) / 2
    assert rows["interquartile mean"][:3] == ["20.0", "300", "—"]
    published = rows["Task"].index("tdmpc2, 100,000")
    assert rows["cheetah-run"][published] == "519"  # benchmarks/references/dmc_returns.csv
