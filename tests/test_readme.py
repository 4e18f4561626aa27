"""The README's own Python lines run as printed, and its tables are up to date."""

import re
from pathlib import Path

import pytest

from benchmarks import tables

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_lines_run_as_printed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, f"{page.name} block", "exec"), names)


def test_the_readme_opens_with_what_people_need():
    text = (ROOT / "README.md").read_text()
    for words in ("make demo", "make test", "mpc.PlanningAgent", "worldmodels.train", "planners.CEM"):
        assert words in text
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / picture).is_file()


def test_tables_are_generated_from_the_committed_results():
    assert tables.update(PAGES, check=True) == []
