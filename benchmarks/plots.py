"""Small SVG panels for the report and the docs, readable on light and dark pages and without colour vision."""

import contextlib
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table_text import group, mean_and_interval

# Okabe & Ito's palette, told apart with any colour vision. In a page each colour is a CSS variable of the
# same name that the theme may lighten; in a file the colour itself is used, dark enough for white, light enough for black.
COLOURS = {
    "ink": "#6b7280",
    "grid": "#9ca3af",
    "blue": "#0072b2",
    "orange": "#d98300",
    "green": "#009e73",
    "purple": "#cc79a7",
    "strong": "#57606c",
}


class MissingExtraError(ImportError):
    """An optional package is not installed; the message says which command installs it."""


def distinct(index: int) -> dict[str, Any]:
    """Colour and line style of the series with this index: first four colours, then the same dashed, then dotted."""
    colours, lines = ("blue", "orange", "green", "purple"), ("-", "--", ":")
    return {"colour": colours[index % 4], "line": lines[index // 4 % 3]}


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
      name: what the legend says; empty for none.
      x, y: values of equal length; points that are not finite are left out.
      interval: half-widths drawn around y, in y's unit.
      colour: a name in `COLOURS`.
      line: matplotlib's line style; empty for points alone.
      marker: matplotlib's marker; empty for a line alone.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "blue"
    interval: Sequence[float] | None = None
    line: str = "-"
    marker: str = ""

    @property
    def width(self) -> float:
        return 1.8 if self.line == "-" else 1.4


@dataclass(frozen=True)
class Axis:
    """What an axis says: name with its unit in the label, whether it counts in powers of ten, whether it starts at zero."""

    label: str
    logarithmic: bool = False
    from_zero: bool = False


def line_panel(series: Sequence[Series], x: Axis, y: Axis, size: tuple[float, float] = (4.2, 2.7)) -> str:
    """SVG of lines over one pair of axes. Size in inches, scaled by the page."""

    def draw(axes: Any) -> None:
        draw_lines(axes, series, x, y)
        _legend(axes)

    return _panel(draw, size)


def bar_panel(
    names: Sequence[str],
    values: Sequence[float | None],
    x: Axis,
    *,
    texts: Sequence[str],
    intervals: Sequence[float | None] | None = None,
    colours: Sequence[str] | None = None,
    width: float = 4.6,
) -> str:
    """SVG of one horizontal bar a name, `texts` at its end, whiskers where there are `intervals`; None leaves a row empty."""
    intervals, colours = intervals or [None] * len(names), colours or ["blue"] * len(names)
    rows = [
        i for i, value in enumerate(values) if value is not None and math.isfinite(value) and (value > 0 or not x.logarithmic)
    ]
    lengths = [float(values[i] or 0) for i in rows]
    whiskers = [float(intervals[i] or 0) for i in rows]
    ends = [length + whisker for length, whisker in zip(lengths, whiskers, strict=True)] or [1.0]
    floor = min(lengths, default=1.0) / 3 if x.logarithmic else min(0.0, *lengths, 0.0)
    room = 0.04 + 0.02 * max((len(texts[i]) for i in rows), default=0)  # share of the axis that the longest text takes

    def draw(axes: Any) -> None:
        base = floor if x.logarithmic else 0.0
        fills = [COLOURS[colours[i]] for i in rows]
        axes.barh(rows, [length - base for length in lengths], left=base, color=fills, height=0.62)
        if any(whiskers):
            axes.errorbar(lengths, rows, xerr=whiskers, fmt="none", ecolor=COLOURS["strong"], elinewidth=1.3, capsize=3)
        for row, end in zip(rows, ends, strict=False):
            axes.annotate(texts[row], (max(end, base), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x.label)
        if x.logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(floor, floor * (max(ends) / floor) ** (1 / (1 - room)))
            _plain_powers(axes.xaxis)
        else:
            axes.set_xlim(floor, floor + (max(*ends, 0.0, floor + 1e-9) - floor) / (1 - room))

    return _panel(draw, (width, 0.75 + 0.34 * len(names)))


def plot_planners(lines: Sequence[dict], path: Path) -> Path:
    """What each planner reaches against decision time and, below it, against model evaluations: two rows a model, a column a task.

    Args:
      lines: of `benchmarks/results/planners.jsonl`; cells that differ only in their seed become one point with a 95 % interval.
      path: `.svg` or `.png`, replaced whole.

    Raises:
      ValueError: no line holds a return or a cost.
    """
    blocks = group([line for line in lines if _outcome(line)], "model")
    if not blocks:
        text = f"{len(lines)} lines, none with return_mean or cost_mean: nothing to plot."
        raise ValueError(f"{text} Expected the lines of benchmarks/results/planners.jsonl.")
    methods = sorted({line["method"] for block in blocks.values() for line in block})
    columns = max(len(group(block, "task")) for block in blocks.values())
    with drawing() as make_figure:
        figure = make_figure(figsize=(0.6 + 3.4 * columns, 0.4 + 5.2 * len(blocks)), layout="constrained")
        panels = figure.subplots(2 * len(blocks), columns, squeeze=False)
        for place, ((model,), block) in enumerate(sorted(blocks.items())):
            _draw_block(panels[2 * place : 2 * place + 2], model, block, methods)
        legend = {name: one for axes in panels.flat for one, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=min(len(legend), 2 + 2 * columns))
        write(figure, path)
    return path


def _draw_block(panels: Any, model: str, lines: Sequence[dict], methods: Sequence[str]) -> None:
    """The tasks of one model, in columns of two panels; columns left over stay empty."""
    tasks = sorted(group(lines, "task").items())
    axes_of_x = (("decision_ms_p50", Axis("decision time, ms", True)), ("model_evaluations", Axis("model evaluations", True)))
    for column, ((task,), cells) in zip(panels.T, tasks, strict=False):
        metric = str(_outcome(cells[0]))
        for axes, (field, x) in zip(column, axes_of_x, strict=True):
            draw_lines(axes, _planner_series(cells, methods, field, metric), x, OUTCOMES[metric])
        column[0].set_title(f"{task}\n{model}" if model else task, fontsize=9)
    for column in panels.T[len(tasks) :]:
        for axes in column:
            axes.set_axis_off()


def plot_demo(summary: dict, open_loop: dict, path: Path) -> Path:
    """The README's picture: returns of the rows beside one predicted and real trajectory and how the error grows.

    Args:
      summary, open_loop: what `sailplan demo` wrote to `summary.json` and `open_loop.json`.
      path: `.svg` or `.png`, replaced whole.
    """
    rows, names = summary["rows"], open_loop["names"][:2]
    seconds = [step * open_loop["seconds_per_step"] for step in open_loop["horizon"]]
    example = open_loop["examples"][0]
    with drawing() as make_figure:
        figure = make_figure(figsize=(10, 2.9), layout="constrained")
        returns, trajectory, error = figure.subplots(1, 3)
        for place, row in enumerate(rows):
            returns.errorbar(row["return_mean"], -place, xerr=row["return_ci95"], marker="o", capsize=3, color=COLOURS["blue"])
        returns.set_yticks([-place for place in range(len(rows))], [row["name"] for row in rows])
        returns.set_xlim(0, 1000)
        returns.set_xlabel("return on unseen seeds, 95 % interval")
        colours = ("blue", "orange")
        real = [
            Series(name, example["time"], example["real"][name], colour) for name, colour in zip(names, colours, strict=False)
        ]
        guessed = [
            Series("", example["time"], example["predicted"][name], colour, line="--")
            for name, colour in zip(names, colours, strict=False)
        ]
        draw_lines(trajectory, [*real, *guessed], Axis("seconds ahead"), Axis("real —, predicted - -"))
        _legend(trajectory)
        grown = [Series(name, seconds, open_loop["error"][name], colour) for name, colour in zip(names, colours, strict=False)]
        copied = [
            Series("", seconds, open_loop["copy_last_error"][name], colour, line=":")
            for name, colour in zip(names, colours, strict=False)
        ]
        draw_lines(error, [*grown, *copied], Axis("seconds ahead"), Axis("error —, of repeating the last ···"))
        write(figure, path)
    return path


def write(figure: Any, path: Path) -> None:
    """Save aside and rename; the same bytes for the same data."""
    aside = path.with_name(f"{path.name}.aside")
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
    figure.savefig(aside, format=path.suffix.lstrip("."), transparent=True, **options)
    os.replace(aside, path)


OUTCOMES = {
    "return_mean": Axis("return"),
    "regret_mean": Axis("cost above the optimum", logarithmic=True),
    "cost_mean": Axis("cost reached"),
}
"""What planners are judged by, the first of these that was measured."""
RESOLVED = 1e-6  # float32 tells no smaller costs apart


def _outcome(line: dict) -> str | None:
    return next((metric for metric in OUTCOMES if line.get(metric) is not None), None)


def _planner_series(lines: Sequence[dict], methods: Sequence[str], field: str, metric: str) -> list[Series]:
    """One series a method, looking alike in every panel; a point for each settings, seeds averaged."""
    series = []
    for index, method in enumerate(methods):
        points = []
        for cell in group([line for line in lines if line["method"] == method], "settings").values():
            x, (y, interval) = mean_and_interval(cell, field)[0], mean_and_interval(cell, metric)
            if x is not None and y is not None:
                points.append((x, max(y, RESOLVED) if OUTCOMES[metric].logarithmic else y, interval or 0.0))
        if points:
            x, y, intervals = zip(*sorted(points), strict=True)
            series.append(Series(method, x, y, interval=intervals, marker="os^Dv<>"[index % 7], **distinct(index)))
    return series


def draw_lines(axes: Any, series: Sequence[Series], x: Axis, y: Axis) -> None:
    for one in series:
        look = {"color": COLOURS[one.colour], "linewidth": one.width, "linestyle": one.line or "none", "marker": one.marker}
        axes.errorbar(one.x, one.y, yerr=one.interval, label=one.name or "_", markersize=4, capsize=2, elinewidth=1, **look)
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    for axis, drawn, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if axis.logarithmic:
            scale("log", nonpositive="mask")
            _plain_powers(drawn)
    if y.from_zero:
        axes.set_ylim(bottom=0)


def _plain_powers(axis: Any) -> None:
    """Label a logarithmic axis 0.01, 0.1, 1, 10; where it spans little, at 2 and 5 as well."""
    low, high = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    every = max(1, len(decades) // 5)
    ticks = [multiple * 10.0**decade for decade in decades[::every] for multiple in multiples]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(ticks, [f"{tick:,g}" if tick >= 1e-4 else f"{tick:.0e}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _legend(axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.6)


def _panel(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """Inline SVG of what `draw` puts on one pair of axes."""
    with drawing() as make_figure:
        figure = make_figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue())


@contextlib.contextmanager
def drawing() -> Iterator[Callable[..., Any]]:
    """Yields matplotlib's Figure class under the report's style, leaving global settings and backend alone."""
    try:
        import matplotlib  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Plots need matplotlib, which is not installed. Run: pip install 'sailplan[viz]'") from error
    ink, grid = COLOURS["ink"], COLOURS["grid"]
    neutral = {f"{name}color": ink for name in ("text.", "axes.label", "xtick.", "ytick.", "axes.edge")}
    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "sailplan", "font.size": 9, "legend.frameon": False, "legend.fontsize": 8.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": grid, "grid.alpha": 0.3,
        "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.formatter.use_mathtext": False, **neutral,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield Figure


def _inline(svg: str) -> str:
    """The `<svg>` element alone, its colours and font handed to the page's style sheet."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", svg)
    svg = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--sans)", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    return svg.strip()
