"""Tables, the published numbers, and the report: one HTML file of what the notebooks say and show."""

import base64
import html
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from PIL import Image

from dyga.provenance import write_atomically, write_json
from dyga.study import layout

STYLE = """
:root { color-scheme: light; --ink: #1f2328; --grey: #656d76; --line: #d9dde2; --accent: #0072b2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 940px; color: var(--ink); background: #fff;
  font: 16px/1.5 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "Liberation Serif", serif; }
h1, h2, h3, h4, nav, table, footer, figcaption { font-family: system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Liberation Sans", sans-serif; }
h1, h2, h3, h4 { line-height: 1.25; font-weight: 650; margin: 1.1em 0 0.4em; }
h1 { font-size: 2.05rem; margin-top: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.5rem; margin-top: 1.8em; padding-top: 0.8em; border-top: 1px solid var(--line); }
h3 { font-size: 1.15rem; }
h4 { font-size: 1rem; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 2px; }
a.anchor-link { display: none; }
nav { font-size: 0.92rem; border: 1px solid var(--line); border-radius: 8px; padding: 0.9rem 1.2rem; }
nav ol { margin: 0; padding: 0; list-style: none; columns: 18rem; }
nav li { break-inside: avoid; }
nav a { text-decoration: none; }
img, svg { max-width: 100%; height: auto; display: block; margin: 0.7rem auto; }
figure { margin-block: 0.7rem; } figure img { margin-block: 0.3rem; }
.output_html, .rendered_html, figure { overflow-x: auto; margin-inline: 0; }
table { border-collapse: collapse; border: 0; margin: 0.8rem auto; font-size: 0.82rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
th, td { border: 0; padding: 0.22rem 0.45rem; text-align: right; overflow-wrap: break-word; }
th:first-child, td:first-child { text-align: left; }
thead tr:last-child th { border-bottom: 1px solid var(--ink); }
tbody tr + tr > * { border-top: 1px solid #eceef1; }
figcaption, caption { font-size: 0.88rem; color: var(--grey); text-align: center; caption-side: top; }
pre, code { font: 0.82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code { background: #f3f5f7; border-radius: 4px; padding: 0.1em 0.3em; }
pre { background: #f6f8fa; border-radius: 6px; padding: 0.7rem 0.9rem; overflow-x: auto; }
pre code { background: none; padding: 0; }
footer { margin-top: 2rem; padding-top: 0.6rem; border-top: 1px solid var(--line); color: var(--grey);
  font-size: 0.76rem; line-height: 1.3; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  body { font-size: 16px; padding: 1.2rem 0.9rem 3rem; }
  h1 { font-size: 1.55rem; } h2 { font-size: 1.25rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.6rem; }
}
@media print { body { max-width: none; } nav { display: none; } }
"""


# What a browser would fetch when the page is opened; no page may contain it.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?\s(?:src|srcset|href|data)\s*=\s*"
    r"[\"']?(?!data:)([^\"'\s>]+)|@import\s+([^;]+)|url\(\s*[\"']?(?!data:|#)([^\"')]+)",
    re.IGNORECASE,
)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


PUBLISHED_METRICS = {"factor_vae_score": "FactorVAE score", "dci_disentanglement": "DCI", "tad": "TAD", "fid": "FID"}


def published_rows(table: str, dataset: str) -> pd.DataFrame:
    """The paper's published numbers, a row per method: `method`, then each metric's mean and, as
    `<metric>_std`, its standard deviation (NaN where not reported); the source is in the frame's
    `attrs`. Tables: `table1` (FactorVAE score, DCI), `table2` (TAD, FID)."""
    published = json.loads(resources.files(__package__).joinpath("published.json").read_text("utf-8"))
    known = {name: list(entry["datasets"]) for name, entry in published.items() if name.startswith("table")}
    if dataset not in known.get(table, []):
        choices = "; ".join(f"{name}: {', '.join(names)}" for name, names in known.items())
        raise ValueError(f"published_rows: nothing published for '{table}', '{dataset}'; there is {choices}")
    metrics = published[table]["metrics"]
    columns = ["method", *(name for metric in metrics for name in (metric, f"{metric}_std"))]
    rows = [
        [method, *(number for pair in values for number in (pair or (np.nan, np.nan)))]
        for method, values in published[table]["datasets"][dataset].items()
    ]
    frame = pd.DataFrame(rows, columns=columns)
    frame.attrs["source"] = published["source"]
    return frame


def published_beside(dataset: str, table: str | None = None) -> pd.DataFrame | None:
    """The `published_rows` of a data set, or of the one that an embedded world resembles; None if `table`, or any table, has
    none. `attrs` has the published data set's `title`."""
    published = json.loads(resources.files(__package__).joinpath("published.json").read_text("utf-8"))
    dataset = published["beside"].get(dataset, dataset)
    tables = [table] if table else [name for name in published if name.startswith("table")]
    found = next((name for name in tables if dataset in published[name]["datasets"]), None)
    if found is None:
        return None
    frame = published_rows(found, dataset)
    frame.attrs["title"] = published["titles"][dataset]
    return frame


def as_printed(published: pd.DataFrame | None) -> pd.DataFrame:
    """Published rows for a table: `from`, `method` and each metric as `0.981 ± 0.004`."""
    if published is None:
        return pd.DataFrame()
    rows = pd.DataFrame({"from": f"published, another experiment: {published.attrs['title']}", "method": published["method"]})
    for name, title in PUBLISHED_METRICS.items():
        if name in published:
            pairs = zip(published[name], published[f"{name}_std"], strict=True)
            rows[title] = [mean_spread([mean], spread, digits=1 if name == "fid" else 3) for mean, spread in pairs]
    return rows


def mean_spread(values: Sequence[float], spread: float | None = None, digits: int = 3) -> str:
    """`0.981 ± 0.004` for tables: the mean of the values and `spread`, or from two values on their
    standard deviation; a dash where there is nothing."""
    values = np.atleast_1d(np.asarray(values, float))
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    if spread is None and len(values) > 1:
        spread = values.std(ddof=1)
    return f"{values.mean():.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def write_figure(figure: Figure, path_stem: Path, provenance: Mapping) -> None:
    """Writes path_stem.png, .svg and .json; all have the provenance."""
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(provenance)
    for suffix, keys in (("png", {"Description": text}), ("svg", {"Description": text, "Date": None})):
        partial = path_stem.with_name(f".{path_stem.name}.{suffix}.tmp")
        figure.savefig(partial, format=suffix, dpi=300, metadata=keys)
        os.replace(partial, path_stem.with_name(f"{path_stem.name}.{suffix}"))
    write_json(path_stem.with_name(f"{path_stem.name}.json"), provenance)


def write_table(frame: pd.DataFrame, path_stem: Path, caption: str, provenance: Mapping | None = None) -> list[Path]:
    """Write `path_stem`.csv, .tex (booktabs) and .html (a fragment), without the index; the last two carry
    the provenance as a comment. Returns the three paths."""
    stem = Path(path_stem)
    note = json.dumps(provenance, default=str) if provenance else ""
    numbers = {"index": False, "float_format": "{:.3f}".format, "na_rep": "–"}
    latex = frame.to_latex(escape=True, caption=_latex(caption), label=f"tab:{stem.name}", position="t", **numbers)
    body = frame.to_html(escape=True, border=0, **numbers)
    figure = f"<figure>\n<figcaption>{html.escape(caption)}</figcaption>\n{body}\n</figure>\n"
    return [
        _write(stem.with_name(f"{stem.name}.csv"), frame.to_csv(index=False)),
        _write(stem.with_name(f"{stem.name}.tex"), (f"% {note}\n" if note else "") + latex),
        _write(stem.with_name(f"{stem.name}.html"), (f"<!-- {html.escape(note)} -->\n" if note else "") + figure),
    ]


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _body(executed: Path, code: bool) -> str:
    """A notebook's prose and outputs as HTML: figures inside it, no widgets (each has a picture beside it),
    no scripts, no progress bars; the code only on request, and with it the cells tagged `notebook-only`."""
    # Imported here, since they take seconds and the notebooks import this file.
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    notebook.cells = [cell for cell in notebook.cells if code or "notebook-only" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", _equation, cell.source)
        else:
            cell.outputs = [output for output in cell.outputs if _shown(output)]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(executed.parent)}})
    return body


def _equation(found: re.Match) -> str:
    """LaTeX between dollar signs as an image, since a page without scripts cannot set it."""
    buffer, latex = io.BytesIO(), found[1] or found[2]
    math_to_image(f"${latex}$", buffer, format="svg", dpi=72, prop=FontProperties(size=13))
    size = "" if found[1] else ' style="display: inline; margin: 0"'
    address = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<img alt="{html.escape(latex)}" src="{address}"{size}>'


def _shown(output: Mapping) -> bool:
    kinds = list(output.get("data", {}))
    return output.get("name") != "stderr" and not any(
        kind.startswith("application/vnd.jupyter.widget") or kind == "application/javascript" for kind in kinds
    )


def page(path: Path, title: str, content: str, style: str = STYLE) -> Path:
    """Writes one HTML page. ValueError if a browser would fetch anything for it."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n"
    )
    fetched = _FETCHED.search(text)
    if fetched:
        raise ValueError(f"{path.name}: the page would fetch {next(filter(None, fetched.groups()))}; embed it instead")
    return _write(path, text)


def notebook_html(executed: Path, path: Path) -> Path:
    """One executed notebook, code included, as one HTML file that needs nothing from outside."""
    from pygments.formatters import HtmlFormatter

    style = STYLE + HtmlFormatter(style="friendly").get_style_defs(".highlight") + "\n.highlight { background: none; }"
    return page(Path(path), Path(executed).stem, _body(Path(executed), code=True), style)


def gather(notebooks: Sequence[Path], path: Path, title: str, provenance: Mapping, note: str = "") -> Path:
    """The report: the executed notebooks' prose, figures and tables in order, without code, as one HTML file
    that loads nothing, with a table of contents, a note below it, and the provenance at the end."""
    sections, contents, shown = [], [], []
    for place, notebook in enumerate(map(Path, notebooks), 1):
        body = _body(notebook, code=False)
        # Notebooks become sections of one page: headings go down one level, ids get the section's number.
        body = re.sub(r"(</?h)([1-5])\b", lambda found: f"{found[1]}{int(found[2]) + 1}", body)
        body = re.sub(r'(<h\d id="|<a [^>]*href="#)', rf"\g<1>{place}-", body)
        heading = re.search(r'<h2 id="([^"]*)">(.*?)<a class="anchor-link"', body, re.DOTALL)
        body = layout.arrange(body, f"{notebook.parent.name}/{notebook.with_suffix('.html').name}", shown)
        anchor, name = heading.groups() if heading else (f"section-{place}", html.escape(notebook.stem))
        contents.append(f'<li><a href="#{anchor}">{name}</a></li>')
        sections.append(f'<section id="section-{place}">\n{body}\n</section>')
    header = f"<header><h1>{html.escape(title)}</h1>\n<nav><ol>{''.join(contents)}</ol></nav>"
    header += (f"<p>{html.escape(note)}</p>" if note else "") + "</header>"
    return page(Path(path), title, _smaller("\n".join([header, *sections, footer(provenance)])), STYLE + layout.STYLE)


def _smaller(page: str) -> str:
    """The page's larger pictures as WebP, a fifth of the size of PNG without visible loss."""

    def smaller(found: re.Match) -> str:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(found[1]))).save(buffer, "webp", quality=90)
        return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    return re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\n]{50000,})", smaller, page)


def footer(provenance: Mapping) -> str:
    """The provenance at a page's end."""
    terms = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{_plain(v)}</dd>" for k, v in provenance.items())
    return f"<footer><dl>{terms}</dl></footer>"


def _plain(value: object) -> str:
    """A provenance entry as text: nested mappings and lists in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{html.escape(str(key))} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return html.escape(f"{value:.1f}" if isinstance(value, float) else str(value))
