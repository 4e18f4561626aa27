"""Building blocks of a self-contained HTML page: sections, figures, tables, and the style they share."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.plots import COLOURS


@dataclass(frozen=True)
class Panel:
    """A figure of the page: an SVG of `benchmarks.plots`, its title, and a sentence saying how to read it."""

    svg: str
    title: str
    caption: str = ""


def page(title: str, body: str) -> str:
    """A whole HTML document; `body` is HTML already."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_style()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def header(eyebrow: str, title: str, lead: str) -> str:
    """What the page is, before any section."""
    lines = f'<p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
    return f"<header>{lines}</header>"


def section(title: str, *parts: str) -> str:
    """A section of HTML parts under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}\n</section>"


def subheading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def details(title: str, body: str) -> str:
    """HTML that unfolds on request."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def missing(text: str) -> str:
    """A sentence standing where something could not be shown; names between backquotes become code."""
    pieces = escape(text).split("`")
    return f'<p class="missing">{"".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))}</p>'


def figures(panels: Sequence[Panel], small: bool = False) -> str:
    """Panels in a grid that falls into one column on a phone."""
    cells = (
        f'<figure role="img" aria-label="{escape(panel.title)}">{panel.svg}'
        f"<figcaption><b>{escape(panel.title)}</b> {escape(panel.caption)}</figcaption></figure>"
        for panel in panels
    )
    return f'<div class="figures{" small" if small else ""}">{"".join(cells)}</div>'


def videos(items: Sequence[tuple[Path, str, str]]) -> str:
    """GIFs as data URIs, each (file, title, caption)."""
    cells = []
    for path, title, caption in items:
        data = base64.b64encode(path.read_bytes()).decode()
        image = f'<img src="data:image/gif;base64,{data}" alt="{escape(title)}" loading="lazy">'
        cells.append(f"<figure>{image}<figcaption><b>{escape(title)}</b> {escape(caption)}</figcaption></figure>")
    return f'<div class="figures small videos">{"".join(cells)}</div>'


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Large figures in a row, each (value, what it is)."""
    cells = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for value, what in items)
    return f'<dl class="facts">{cells}</dl>'


def table(headings: Sequence[str], rows: Sequence[tuple[str, str, str, Sequence[str]]]) -> str:
    """A table whose rows are (colour name, row heading, note, cells); it scrolls sideways where it must."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = []
    for colour, name, note, cells in rows:
        small = f"<small>{escape(note)}</small>" if note else ""
        heading = f'<th scope="row"><i style="background:var(--{colour})"></i>{escape(name)}{small}</th>'
        lines.append(f"<tr>{heading}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """Terms and their values, for provenance."""
    return f'<dl class="terms">{"".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items)}</dl>'


def duration(seconds: float | None) -> str:
    """`4 min 10 s`, `12.3 s`, or `—`."""
    if seconds is None or not math.isfinite(seconds):
        return "—"
    if seconds < 60:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{int(seconds // 60)} min {int(seconds % 60)} s"


_ON_LIGHT = {
    "ink": "#5b6470",
    "grid": "#9ca3af",
    "blue": "#0072b2",
    "orange": "#c97700",
    "green": "#00856a",
    "purple": "#b4568f",
    "strong": "#1d2329",
}
_ON_DARK = {
    "ink": "#a3adb9",
    "grid": "#6b7684",
    "blue": "#56a8e4",
    "orange": "#f0a830",
    "green": "#2ec4a0",
    "purple": "#dd94bd",
    "strong": "#f2f4f6",
}


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in {**COLOURS, **colours}.items())


def _style() -> str:
    return f""":root{{color-scheme:light dark;{_variables(_ON_LIGHT)}{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(_ON_DARK)}{_DARK}}}}}
{_RULES}"""


_LIGHT = "--page:#fcfcfb;--text:#1d2329;--rule:#e3e5e8;--soft:#f2f3f4;"
_DARK = "--page:#14171b;--text:#e6e9ec;--rule:#2b3138;--soft:#1d2227;"
_RULES = """:root{--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;--mono:ui-monospace,Menlo,Consolas,monospace}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.6 var(--sans);-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:clamp(1.5rem,5vw,4rem) clamp(1rem,4vw,2rem)}
h1{font-size:clamp(1.7rem,5.5vw,2.7rem);line-height:1.15;letter-spacing:-.02em;margin:.2em 0 .5em;overflow-wrap:anywhere}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:0 0 .6rem}
h3{font-size:1rem;margin:2rem 0 .3rem}
p{max-width:68ch;margin:.5rem 0 1rem}
section{border-top:1px solid var(--rule);margin-top:3rem;padding-top:2rem}
.eyebrow{color:var(--ink);font-size:.85rem;margin:0}
.lead{font-size:1.1rem}
.missing{color:var(--ink);border-left:3px solid var(--rule);padding-left:1rem}
code{font:.9em var(--mono);background:var(--soft);padding:.1em .3em;border-radius:3px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1.5rem;margin:2.2rem 0 0}
.facts div{display:flex;flex-direction:column-reverse;justify-content:flex-end}
.facts dd{margin:0;font-size:1.75rem;line-height:1.2;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.facts dt{color:var(--ink);font-size:.85rem;line-height:1.4}
.scroll{overflow-x:auto;margin:1.2rem 0 2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.55rem .7rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:top}
th:first-child{text-align:left;padding-left:0;white-space:normal;min-width:11rem}
thead th{color:var(--ink);font-size:.8rem;font-weight:500;vertical-align:bottom;white-space:normal}
tbody th{font-weight:550}
th small{display:block;overflow-wrap:anywhere;color:var(--ink);font-weight:400;padding-left:1.25rem}
th i{display:inline-block;width:.65rem;height:.65rem;border-radius:2px;margin-right:.6rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:2rem 2.5rem;margin:1.5rem 0}
.figures.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));gap:1.5rem}
figure{margin:0;min-width:0;max-width:560px}
figure svg,figure img{display:block;width:100%;height:auto}
figure img{border-radius:6px;background:var(--soft)}
figcaption{font-size:.875rem;line-height:1.5;color:var(--ink);margin-top:.5rem}
figcaption b{color:var(--text);font-weight:600}
svg text{font-variant-numeric:tabular-nums}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--ink)}
.terms{display:grid;grid-template-columns:minmax(6rem,auto) 1fr;gap:.4rem 1.5rem;font-size:.9rem;margin:0}
.terms dt{color:var(--ink)}
.terms dd{margin:0;overflow-wrap:anywhere}
@media (max-width:520px){th,td{padding:.5rem .3rem;font-size:.85rem}th:first-child{min-width:6.5rem}thead th{font-size:.7rem}.facts{grid-template-columns:1fr 1fr}.facts dd{font-size:1.4rem}}
"""
