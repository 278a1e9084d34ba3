"""Tables, the published numbers, and the report: one HTML file of what the notebooks say and show."""

import base64
import html
import io
import json
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

STYLE = resources.files(__package__).joinpath("report.css").read_text("utf-8")
PUBLISHED_METRICS = {"factor_vae_score": "FactorVAE score", "dci_disentanglement": "DCI", "tad": "TAD", "fid": "FID"}
# What a browser would fetch when the page is opened; no page may contain it.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?\s(?:src|srcset|href|data)\s*=\s*"
    r"[\"']?(?!data:)([^\"'\s>]+)|@import\s+([^;]+)|url\(\s*[\"']?(?!data:|#)([^\"')]+)",
    re.IGNORECASE,
)


def published(dataset: str, table: str | None = None) -> pd.DataFrame:
    """The paper's numbers for a data set, or for the one that an embedded world resembles, as text: `from`, `method`, and each
    metric as `0.981 ± 0.004`. `table` is `table1` (FactorVAE score, DCI) or `table2` (TAD, FID), or the one that has the data
    set. `attrs` has the `title` of the published data set. Empty if nothing was published."""
    stored = json.loads(resources.files(__package__).joinpath("published.json").read_text("utf-8"))
    dataset = stored["beside"].get(dataset, dataset)
    tables = [stored[name] for name in ("table1", "table2") if table in (None, name) and dataset in stored[name]["datasets"]]
    if not tables:
        return pd.DataFrame()
    metrics, title = tables[0]["metrics"], stored["titles"][dataset]
    rows = []
    for method, values in tables[0]["datasets"][dataset].items():
        row = {"from": f"published, another experiment: {title}", "method": method}
        for metric, pair in zip(metrics, values, strict=True):
            digits = 1 if metric == "fid" else 3
            row[PUBLISHED_METRICS[metric]] = f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}" if pair else "–"
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.attrs["title"] = title
    return frame


def mean_spread(values: Sequence[float], digits: int = 3) -> str:
    """`0.981 ± 0.004` for tables: the mean of the values and, from two on, their standard deviation; a dash without values."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    return f"{values.mean():.{digits}f}" + (f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else "")


def write_figure(figure: Figure, stem: Path, provenance: Mapping) -> None:
    """Writes `stem`.png, .svg and .json. All contain the provenance, to which the figure's `label` is added."""
    provenance = {**provenance, "label": figure.get_label()}
    text = json.dumps(provenance)
    for suffix, keys in (("png", {"Description": text}), ("svg", {"Description": text, "Date": None})):
        content = io.BytesIO()
        figure.savefig(content, format=suffix, dpi=300, metadata=keys)
        _write(stem.with_name(f"{stem.name}.{suffix}"), content.getvalue())
    write_json(stem.with_name(f"{stem.name}.json"), provenance)


def write_table(frame: pd.DataFrame, stem: Path, caption: str, provenance: Mapping) -> None:
    """Writes `stem`.csv, .tex (booktabs) and .html (a fragment), without the index, and .json. The last three contain the
    provenance, to which the `caption` is added."""
    provenance = {**provenance, "caption": caption}
    note = json.dumps(provenance)
    numbers = {"index": False, "float_format": "{:.3f}".format, "na_rep": "–"}
    latex = frame.to_latex(escape=True, caption=_latex(caption), label=f"tab:{stem.name}", position="t", **numbers)
    figure = f"<figcaption>{html.escape(caption)}</figcaption>\n{frame.to_html(escape=True, border=0, **numbers)}"
    _write(stem.with_name(f"{stem.name}.csv"), frame.to_csv(index=False))
    _write(stem.with_name(f"{stem.name}.tex"), f"% {note}\n{latex}")
    _write(stem.with_name(f"{stem.name}.html"), f"<!-- {html.escape(note)} -->\n<figure>\n{figure}\n</figure>\n")
    write_json(stem.with_name(f"{stem.name}.json"), provenance)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _body(executed: Path, code: bool) -> str:
    """A notebook's prose and outputs as HTML: figures inside it, no widgets (each has a picture beside it),
    no scripts, no progress bars; the code only on request, and with it the cells tagged `notebook-only`, and those tagged
    `with-result` whose next cell shows nothing."""
    # Imported here, since they take seconds and the notebooks import this file.
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    following = [*notebook.cells[1:], None]
    notebook.cells = [cell for cell, after in zip(notebook.cells, following, strict=True) if code or _reported(cell, after)]
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


def _reported(cell: Mapping, after: Mapping | None) -> bool:
    tags = cell["metadata"].get("tags", [])
    empty = after is not None and not any(_shown(output) for output in after.get("outputs", []))
    return "notebook-only" not in tags and not ("with-result" in tags and empty)


def _equation(found: re.Match) -> str:
    """LaTeX between dollar signs as an image, since a page without scripts cannot set it."""
    buffer, latex = io.BytesIO(), found[1] or found[2]
    math_to_image(f"${latex}$", buffer, format="svg", dpi=72, prop=FontProperties(size=13))
    size = "" if found[1] else ' style="display: inline; margin: 0"'
    return f'<img alt="{html.escape(latex)}" src="{embedded("svg+xml", buffer)}"{size}>'


def embedded(kind: str, image: io.BytesIO) -> str:
    """An image's content as the address from which a page shows it."""
    return f"data:image/{kind};base64,{base64.b64encode(image.getvalue()).decode()}"


def _shown(output: Mapping) -> bool:
    kinds = list(output.get("data", {}))
    return output.get("name") != "stderr" and not any(
        kind.startswith("application/vnd.jupyter.widget") or kind == "application/javascript" for kind in kinds
    )


def page(path: Path, title: str, content: str, more_style: str = "") -> None:
    """Writes one HTML page. ValueError if a browser would fetch anything for it."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}{more_style}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n"
    )
    fetched = _FETCHED.search(text)
    if fetched:
        raise ValueError(f"{path.name}: the page would fetch {next(filter(None, fetched.groups()))}; embed it instead")
    _write(path, text)


def notebook_html(executed: Path, path: Path) -> None:
    """One executed notebook, code included, as one HTML file that needs nothing from outside."""
    from pygments.formatters import HtmlFormatter

    colours = HtmlFormatter(style="friendly").get_style_defs(".highlight") + "\n.highlight { background: none; }"
    page(path, executed.stem, _body(executed, code=True), colours)


def gather(notebooks: Sequence[Path], path: Path, title: str, provenance: Mapping, note: str = "") -> None:
    """The report: the executed notebooks' prose, figures and tables in order, without code, as one HTML file that loads nothing,
    with a table of contents, a note below it, and the provenance at the end."""
    sections, contents, shown = [], [], []
    for place, notebook in enumerate(notebooks, 1):
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
    page(path, title, _smaller("\n".join([header, *sections, footer(provenance)])))


def _smaller(page: str) -> str:
    """The page's larger pictures as WebP, a fifth of the size of PNG without visible loss."""

    def smaller(found: re.Match) -> str:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(found[1]))).save(buffer, "webp", quality=90)
        return embedded("webp", buffer)

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
