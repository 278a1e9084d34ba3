"""Sliders that live in a page without a kernel, server or network: every frame is decoded beforehand and embedded."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from dyga.explore.run import Run, Unit

_STYLE = """
.live{display:flex;flex-wrap:wrap;gap:1.2rem;align-items:center;justify-content:center;margin:1.2rem 0;
 font:14px/1.4 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
.live canvas{width:var(--side,256px);height:var(--side,256px);image-rendering:pixelated;border-radius:4px}
.live div{display:grid;gap:.35rem}.live label{display:grid;grid-template-columns:9.5em 200px;align-items:center;gap:.6rem}
.live label.tick{grid-template-columns:1.4em auto}.live input[type=range]{width:100%;margin:0}
.live span{text-align:center;color:#656d76}
""".replace("\n", "")

# Both scripts find their own figure by its id, hold one sheet of frames, and draw a frame of it on a canvas.
_FRAME = """
const root=document.getElementById("ID"),data=DATA,sheet=new Image(),n=data.side;
const draw=(name,row,column)=>{const c=root.querySelector(`canvas[data-name=${name}]`).getContext("2d");
 c.drawImage(sheet,column*n,row*n,n,n,0,0,n,n);};
"""
_SLIDERS = """
const picture=root.querySelector("input[data-picture]"),units=[...root.querySelectorAll("input[data-unit]")];
const rest=()=>units.forEach((u,i)=>{u.value=data.places[picture.value][i];});
const show=i=>draw("picture",picture.value*units.length+i,units[i].value);
units.forEach((u,i)=>u.addEventListener("input",()=>{const v=u.value;rest();u.value=v;show(i);}));
picture.addEventListener("input",()=>{rest();show(0);});
sheet.onload=()=>{rest();show(0);};sheet.src=data.sheet;
"""
_EXCHANGE = """
const pair=root.querySelector("input[data-picture]"),ticks=[...root.querySelectorAll("input[data-unit]")];
const whole=root.querySelector("input[data-whole]");
const show=()=>{const p=+pair.value,full=2**ticks.length-1;let set=0;ticks.forEach((t,i)=>{if(t.checked)set|=1<<i;});
 draw("source",2*p,full+1);draw("target",2*p+1,full+1);draw("result",2*p+(whole.checked?1:0),set);};
[pair,whole,...ticks].forEach(e=>e.addEventListener("input",show));
sheet.onload=show;sheet.src=data.sheet;
"""


class Live(str):
    """HTML that shows itself in a notebook and stays alive in an exported page."""

    def _repr_html_(self) -> str:
        return str(self)


def traversals(run: Run, images: np.ndarray, units: Sequence[Unit], count: int = 11) -> Live:
    """A slider per unit and one for the picture; images uint8 (n, 64, 64, 3). A unit's slider moves that unit alone, through
    `count` places of its range; the others go back to the picture's own."""
    features = run.encode(images)
    grid = np.linspace(0, len(run.curve) - 1, count).round().astype(int)
    index = [unit.index for unit in units]
    own = np.stack([run.places(f)[index] for f in features])
    rest = np.abs(grid - own[..., None]).argmin(axis=-1)
    along = np.broadcast_to(features[:, None, None], (len(images), len(units), count, *features.shape[1:])).copy()
    for u, unit in enumerate(index):
        along[:, u, :, unit] = run.curve[grid, unit]
        # At rest a slider shows the picture's own units, not the nearest place of its range.
        along[np.arange(len(images)), u, rest[:, u]] = features
    frames = run.decode(along.reshape(-1, *features.shape[1:]))
    frames = frames.reshape(len(images) * len(units), count, *frames.shape[1:])
    controls = [_range("picture", "data-picture", len(images))]
    controls += [_range(_name(unit), f'data-unit="{u}"', count) for u, unit in enumerate(units)]
    body = f"<div>{''.join(controls)}</div>{_canvas('picture', frames.shape[2])}"
    return _figure("sliders", frames, body, _SLIDERS, places=rest.tolist())


def interchange(run: Run, sources: np.ndarray, targets: np.ndarray, units: Sequence[Unit]) -> Live:
    """A tick per unit to take it from the target, for pairs of pictures, uint8 (n, 64, 64, 3); one more tick takes every unit
    that follows a ticked one's factor. At most seven units, since every combination is decoded."""
    if len(units) > 7 or len(sources) != len(targets):
        raise ValueError(
            f"live interchange: {len(units)} units, {len(sources)} sources, {len(targets)} targets: at most 7 units, pairs"
        )
    before, after = run.encode(sources), run.encode(targets)
    groups = [run.following(unit) for unit in units]
    swapped = np.repeat(before[:, None, None], 2, axis=1).repeat(2 ** len(units), axis=2)
    for combination in range(2 ** len(units)):
        chosen = [i for i in range(len(units)) if combination >> i & 1]
        for whole, taken in enumerate(([units[i].index for i in chosen], [u for i in chosen for u in groups[i]])):
            swapped[:, whole, combination, taken] = after[:, taken]
    frames = run.decode(swapped.reshape(-1, *before.shape[1:])).reshape(len(sources) * 2, -1, *sources.shape[1:])
    # The untouched pictures stand at the end of the rows of their pair.
    ends = np.stack([sources, targets], axis=1).reshape(-1, 1, *sources.shape[1:])
    ticks = "".join(_tick(_name(unit), f'data-unit="{i}"') for i, unit in enumerate(units))
    controls = (
        _range("pair", "data-picture", len(sources)) + ticks + _tick("with every unit that follows the factor", "data-whole")
    )
    canvases = "".join(_canvas(name, sources.shape[1], name) for name in ("source", "target", "result"))
    return _figure(
        "exchange", np.concatenate([frames, ends], axis=1), f"<div>{controls}</div>{canvases}", _EXCHANGE, width="150px"
    )


def _name(unit: Unit) -> str:
    return unit.factor.replace("_", " ") if unit.factor else str(unit)


def _range(label: str, kind: str, count: int) -> str:
    return f'<label>{html.escape(label)}<input type="range" {kind} min="0" max="{count - 1}" value="0"></label>'


def _tick(label: str, kind: str) -> str:
    return f'<label class="tick"><input type="checkbox" {kind}>{html.escape(label)}</label>'


def _canvas(name: str, side: int, title: str = "") -> str:
    caption = f"<span>{title}</span>" if title else ""
    return f'<div>{caption}<canvas data-name="{name}" width="{side}" height="{side}"></canvas></div>'


def _figure(kind: str, rows: np.ndarray, body: str, script: str, width: str = "256px", **data) -> Live:
    """rows (r, c, H, W, 3) become one sheet of frames."""
    high, wide = rows.shape[2:4]
    sheet = rows.transpose(0, 2, 1, 3, 4).reshape(rows.shape[0] * high, rows.shape[1] * wide, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "webp", quality=88, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    name = f"live-{kind}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    values = json.dumps({"side": wide, "sheet": uri} | data)
    code = "(()=>{" + (_FRAME.replace("ID", name).replace("DATA", values) + script) + "})();"
    figure = f'<div class="live live-{kind}" id="{name}" style="--side:{width}">{body}</div>'
    return Live(f"<style>{_STYLE}</style>{figure}<script>{code}</script>")
