"""A progress bar for whatever counts."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(markup=False)


class Bar:
    """A progress bar with rate and time left, fed by callbacks."""

    def __init__(self, label: str, unit: str):
        rate = TextColumn("{task.fields[rate]:>8.0f} " + unit + "/s")
        columns = (
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            rate,
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self.progress = Progress(*columns, console=console)
        self.task = self.progress.add_task(label, total=None, rate=0.0, note="")

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        elapsed = self.progress.tasks[0].elapsed or 0.0
        self.progress.update(self.task, completed=done, total=total, note=note, rate=done / elapsed if elapsed else 0.0)
