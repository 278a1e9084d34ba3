"""Static explorers: HTML with sliders that needs no kernel, server or network. Every frame is decoded in advance and embedded."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence

import numpy as np
from IPython.display import HTML
from PIL import Image

from dyga.explore.run import Run, Unit, even_indices

LARGEST = 16_383  # pixels of a side of an image in WebP

_STYLE = """
.static-explorer{display:flex;flex-wrap:wrap;gap:1.2rem;align-items:center;justify-content:center;margin:1.2rem 0;
 font:14px/1.4 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
.static-explorer canvas{width:var(--side,256px);height:var(--side,256px);image-rendering:pixelated;border-radius:4px}
.static-explorer div{display:grid;gap:.35rem}
.static-explorer label{display:grid;grid-template-columns:9.5em 200px;align-items:center;gap:.6rem}
.static-explorer label.tick{grid-template-columns:1.4em auto}
.static-explorer input[type=range]{width:100%;margin:0}
.static-explorer span{text-align:center;color:#656d76}
""".replace("\n", "")

# Each script finds its figure by id, loads one sheet of frames, and draws frames of it on canvases.
_FRAME = """
const root=document.getElementById("ID"),data=DATA,sheet=new Image(),n=data.side;
const draw=(name,row,column)=>{const c=root.querySelector(`canvas[data-name=${name}]`).getContext("2d");
 c.drawImage(sheet,column*n,row*n,n,n,0,0,n,n);};
"""
_TRAVERSALS = """
const image=root.querySelector("input[data-image]"),units=[...root.querySelectorAll("input[data-unit]")];
const reset=()=>units.forEach((u,i)=>{u.value=data.start[image.value][i];});
const show=i=>draw("image",image.value*units.length+i,units[i].value);
units.forEach((u,i)=>u.addEventListener("input",()=>{const v=u.value;reset();u.value=v;show(i);}));
image.addEventListener("input",()=>{reset();show(0);});
sheet.onload=()=>{reset();show(0);};sheet.src=data.sheet;
"""
_INTERCHANGE = """
const pair=root.querySelector("input[data-image]"),ticks=[...root.querySelectorAll("input[data-unit]")];
const whole=root.querySelector("input[data-whole]");
const show=()=>{const p=+pair.value,full=2**ticks.length-1;let set=0;ticks.forEach((t,i)=>{if(t.checked)set|=1<<i;});
 draw("source",2*p,full+1);draw("target",2*p+1,full+1);draw("result",2*p+(whole&&whole.checked?1:0),set);};
[pair,whole,...ticks].filter(Boolean).forEach(e=>e.addEventListener("input",show));
sheet.onload=show;sheet.src=data.sheet;
"""


def traversals(run: Run, images: np.ndarray, units: Sequence[Unit], count: int = 11) -> HTML:
    """One slider per unit and one to choose among images (n, size, size, 3) uint8.

    A unit's slider moves only that unit, through `count` values of its traversal grid; the other units return to the image's own.
    ValueError for more frames than one sheet holds (16,383 pixels a side).
    """
    features = run.encode(images)
    own = np.stack([run.grid_indices(f) for f in features])[:, [unit.index for unit in units]]
    start = np.abs(even_indices(count) - own[..., None]).argmin(axis=-1)
    moved = np.stack([[run.traversal_features(f, unit.index, count) for unit in units] for f in features])
    # The start position shows the image's own features, not the nearest point of the grid.
    moved[np.arange(len(images))[:, None], np.arange(len(units)), start] = features[:, None]
    _check_sheet("traversals", len(images) * len(units), count, images.shape[1])
    frames = run.decode(moved.reshape(-1, *features.shape[1:]))
    frames = frames.reshape(len(images) * len(units), count, *frames.shape[1:])
    controls = [_range("image", "data-image", len(images))]
    controls += [_range(unit.name, f'data-unit="{u}"', count) for u, unit in enumerate(units)]
    body = f"<div>{''.join(controls)}</div>{_canvas('image', frames.shape[2])}"
    return _figure("traversals", frames, body, _TRAVERSALS, start=start.tolist())


def interchange(run: Run, sources: np.ndarray, targets: np.ndarray, units: Sequence[Unit]) -> HTML:
    """Latent interchange (paper, Figure 3) between pairs of images, both (n, size, size, 3) uint8.

    One checkbox per unit takes it from the target. If units have factors, one more extends the choice to all units with the same
    factors. ValueError for more than seven units, since every combination is decoded, or if the numbers of images differ, or for
    more frames than one sheet holds.
    """
    if len(units) > 7 or len(sources) != len(targets):
        counts = f"{len(units)} units, {len(sources)} sources, {len(targets)} targets"
        raise ValueError(f"static interchange: {counts}: valid are at most 7 units, and as many sources as targets")
    grouped = any(unit.factors for unit in units)
    _check_sheet("interchange", 2 * len(sources), 2 ** len(units) + 1, sources.shape[1])
    before, after = run.encode(sources), run.encode(targets)
    groups = [run.following(unit) for unit in units]
    features = np.repeat(before[:, None, None], 1 + grouped, axis=1).repeat(2 ** len(units), axis=2)
    for combination in range(2 ** len(units)):
        chosen = [i for i in range(len(units)) if combination >> i & 1]
        for whole, taken in enumerate(([units[i].index for i in chosen], [u for i in chosen for u in groups[i]])[: 1 + grouped]):
            features[:, whole, combination, taken] = after[:, taken]
    frames = run.decode(features.reshape(-1, *before.shape[1:])).reshape(len(sources), 1 + grouped, -1, *sources.shape[1:])
    frames = np.broadcast_to(frames, (len(sources), 2, *frames.shape[2:])).reshape(2 * len(sources), -1, *sources.shape[1:])
    # The last column holds the original images: a pair's source in its first row, the target in its second.
    originals = np.stack([sources, targets], axis=1).reshape(-1, 1, *sources.shape[1:])
    controls = [_range("pair", "data-image", len(sources))]
    controls += [_checkbox(unit.name, f'data-unit="{i}"') for i, unit in enumerate(units)]
    controls += [_checkbox("include all units of the same factor", "data-whole")] if grouped else []
    canvases = "".join(_canvas(name, sources.shape[1], name) for name in ("source", "target", "result"))
    body = f"<div>{''.join(controls)}</div>{canvases}"
    return _figure("interchange", np.concatenate([frames, originals], axis=1), body, _INTERCHANGE, width="150px")


def _range(label: str, attribute: str, count: int) -> str:
    return f'<label>{html.escape(label)}<input type="range" {attribute} min="0" max="{count - 1}" value="0"></label>'


def _checkbox(label: str, attribute: str) -> str:
    return f'<label class="tick"><input type="checkbox" {attribute}>{html.escape(label)}</label>'


def _canvas(name: str, side: int, title: str = "") -> str:
    caption = f"<span>{title}</span>" if title else ""
    return f'<div>{caption}<canvas data-name="{name}" width="{side}" height="{side}"></canvas></div>'


def _check_sheet(kind: str, rows: int, columns: int, side: int) -> None:
    """ValueError, before anything is decoded, if so many frames do not fit one sheet."""
    size = columns * side, rows * side
    if max(size) > LARGEST:
        frames = f"{rows} x {columns} frames of {side}x{side} pixels"
        raise ValueError(f"static {kind}: {frames} make an image of {size[0]}x{size[1]}: valid is at most {LARGEST} a side")


def _figure(kind: str, frames: np.ndarray, body: str, script: str, width: str = "256px", **data) -> HTML:
    """The complete HTML. Frames (rows, columns, H, W, 3) uint8 become one sheet; `data` is passed to the script."""
    high, wide = frames.shape[2:4]
    sheet = frames.transpose(0, 2, 1, 3, 4).reshape(frames.shape[0] * high, frames.shape[1] * wide, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "webp", quality=88, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    name = f"static-{kind}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    values = json.dumps({"side": wide, "sheet": uri} | data)
    code = "(()=>{" + (_FRAME.replace("ID", name).replace("DATA", values) + script) + "})();"
    figure = f'<div class="static-explorer static-{kind}" id="{name}" style="--side:{width}">{body}</div>'
    return HTML(f"<style>{_STYLE}</style>{figure}<script>{code}</script>")
