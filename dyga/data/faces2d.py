"""faces2d: cartoon faces drawn in layers, with five multi-valued factors and seven binary attributes.

There are 4 hair styles * 5 head turns * 2**7 attributes = 2,560 drawings. Each is drawn once, layer over layer, which gives the
shares of background, skin and hair in each pixel and the fixed colours of the rest. An image is the sum over these three surfaces
of share times colour, plus the fixed colours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyga.data.factors import Factors
from dyga.data.world import SAMPLES, SIZE, ColouredWorld, rendered, sample_grid

ATTRIBUTES = ("glasses", "smile", "beard", "hat", "eyes_open", "earrings", "scarf")
FACTORS = Factors(
    names=("background", "skin_tone", "hair_colour", "hair_style", "head_turn", *ATTRIBUTES),
    sizes=(6, 5, 5, 4, 5, *[2] * len(ATTRIBUTES)),
)
STYLES = ("short", "long", "curly", "bunches")
BACKDROPS = np.array([(150, 200, 240), (170, 222, 160), (250, 208, 110), (244, 160, 150), (196, 170, 232), (120, 204, 204)])
SKINS = np.array([(252, 224, 200), (240, 194, 150), (208, 150, 100), (152, 98, 62), (88, 54, 40)])
HAIRS = np.array([(36, 30, 34), (124, 74, 24), (186, 74, 30), (244, 200, 84), (176, 178, 186)])  # black, brown, red, blond, grey

SURFACES = ("background", "skin", "hair")
BACKGROUND, SKIN, HAIR = range(3)
WHITE, INK, LIP, MOUTH, SHIRT, HAT, BAND, GOLD, LENS, BLUSH, FRAME, SCARF = np.array(
    [(250, 250, 250), (38, 32, 40), (190, 70, 72), (110, 30, 40), (70, 92, 150), (206, 52, 60), (250, 236, 214), (255, 196, 40),
     (214, 236, 250), (238, 120, 110), (46, 44, 60), (44, 150, 96)], float)  # fmt: skip

# All lengths are in halves of the picture's width. A turn `t` from -1 to 1 moves what is in front of the head's axis with it and
# what is behind the axis against it. The head also leans the way it turns: parts that stay in place are too easy to find, even
# for linear methods.
X, Y = (axis.astype(np.float32) for axis in sample_grid())
LEAN = 0.15
FACE_Y, WIDE, TALL = 0.06, 0.50, 0.62
DITHER = np.arange(SAMPLES**2) * 7 % SAMPLES**2  # the order in which a translucent layer covers the samples of a pixel


def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    """The samples inside an upright ellipse."""
    return ((X - x) / a) ** 2 + ((Y - y) / b) ** 2 < 1


def box(left: float, top: float, right: float, bottom: float, corner: float = 0.0) -> np.ndarray:
    """The samples inside a box with round corners; left and right may be interchanged."""
    x = np.abs(X - (left + right) / 2) - abs(right - left) / 2 + corner
    y = np.abs(Y - (top + bottom) / 2) - (bottom - top) / 2 + corner
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) < corner + 1e-6


def stroke(x: float, y: float, half: float, bend: float, width: float) -> np.ndarray:
    """The samples of a bent line of half a length, thinner toward its ends; its middle is `bend` below its ends."""
    u = (X - x) / half
    thickness = width * np.sqrt(np.maximum(1 - 0.7 * u * u, 0))
    return (np.abs(Y - y - bend * (1 - u * u)) < thickness) & (np.abs(u) < 1)


class Layer:
    """A part of the picture: per sample the shares of the three surfaces and three fixed colour channels, and what it covers."""

    def __init__(self) -> None:
        self.channels = np.zeros((len(SURFACES) + 3, *X.shape), np.float32)
        self.covered = np.zeros(X.shape, bool)

    def paint(self, where: np.ndarray, what: int | np.ndarray, shade: float | np.ndarray = 1.0, opacity: float = 1.0) -> None:
        """Paints the samples `where` with a surface (its number) or a colour, times a shade that may vary. A translucent paint
        covers only the share `opacity` of each pixel's samples."""
        where = where & (DITHER < opacity * SAMPLES**2)[:, None, None]
        shade = np.broadcast_to(np.float32(shade), X.shape)[where]
        self.channels[:, where] = 0
        if isinstance(what, int):
            self.channels[what, where] = shade
        else:
            self.channels[len(SURFACES) :, where] = shade * what[:, None] / 255
        self.covered |= where

    def pixels(self) -> np.ndarray:
        """The channels, and last the share of the layers below that remains: (7, 64, 64)."""
        return np.concatenate([self.channels.mean(axis=1), 1 - self.covered.mean(axis=0, dtype=np.float32)[None]])


def _face(t: float) -> tuple[float, np.ndarray]:
    x = (LEAN + 0.03) * t
    return x, ellipse(x, FACE_Y, WIDE, TALL)


def _eyes(t: float) -> list[tuple[float, float]]:
    """Position and half the width of both eyes."""
    return [((LEAN + 0.21) * t + side * 0.215 * (1 - 0.06 * abs(t)), 0.140 * (1 - 0.18 * side * t)) for side in (-1, 1)]


def behind(layer: Layer, style: str, t: float) -> None:
    """Background, the hair behind the head, shirt, neck, ears and the bare face."""
    (x, face), back, body = _face(t), (LEAN - 0.10) * t, 0.5 * LEAN * t
    layer.paint(np.ones(X.shape, bool), BACKGROUND, np.clip(1.0 - 0.22 * (X**2 + (Y + 0.2) ** 2), 0, 1))
    if style == "long":
        layer.paint(box(back - 0.66, -0.60, back + 0.66, 0.82, 0.42), HAIR, 0.80)
    elif style == "curly":
        layer.paint(ellipse(back, -0.12, 0.74, 0.70), HAIR, 0.80)
        for angle in np.pi * np.linspace(0.86, 2.14, 15):
            layer.paint(ellipse(back + 0.74 * np.cos(angle), -0.12 + 0.66 * np.sin(angle), 0.16, 0.16), HAIR, 0.80)
    elif style == "bunches":
        for side in (-1, 1):
            layer.paint(ellipse(back + side * 0.72, 0.10, 0.21, 0.34), HAIR, 0.84)
            layer.paint(ellipse(back + side * 0.66, -0.18, 0.10, 0.10), LIP)
    layer.paint(ellipse(body, 1.16, 0.86, 0.42), SHIRT, 1.1 - 0.25 * np.abs(X))
    layer.paint(box(body - 0.18, 0.4, body + 0.18, 0.86, 0.1) | ellipse(body, 0.84, 0.24, 0.10), SKIN, 0.80)
    for side in (-1, 1):
        ear = x + side * (WIDE - 0.005) - 0.10 * t
        layer.paint(ellipse(ear, 0.10, 0.10, 0.15), SKIN, 0.90)
        layer.paint(ellipse(ear, 0.10, 0.05, 0.09), SKIN, 0.76)
    outside = ((X - x + 0.12) / WIDE) ** 2 + ((Y - FACE_Y + 0.1) / TALL) ** 2
    layer.paint(face, SKIN, np.clip(1.02 - 0.30 * np.maximum(outside - 0.45, 0), 0, 1))
    for side in (-1, 1):
        layer.paint(ellipse(x + 0.17 * t + side * 0.31, 0.27, 0.11, 0.075) & face, BLUSH, opacity=0.28)


def beard(layer: Layer, style: str, t: float) -> None:
    x = (LEAN + 0.21) * t
    chin = ellipse(_face(t)[0], 0.10, WIDE + 0.03, TALL + 0.05) & (Y > 0.06) & ~ellipse(x - 0.06 * t, 0.02, 0.40, 0.37)
    layer.paint(chin | ellipse(x, 0.30, 0.23, 0.075) & (Y < 0.33), HAIR, 0.92)


def smile(layer: Layer, style: str, t: float) -> None:
    x, y = (LEAN + 0.20) * t, 0.38
    mouth = ellipse(x, y - 0.06, 0.28, 0.27) & (Y > y - 0.06) & _face(t)[1]
    layer.paint(mouth, MOUTH)
    layer.paint(mouth & (Y < y + 0.035), WHITE)
    layer.paint(mouth & ellipse(x, y + 0.20, 0.14, 0.10), LIP)


def no_smile(layer: Layer, style: str, t: float) -> None:
    layer.paint(stroke((LEAN + 0.20) * t, 0.43, 0.15, -0.035, 0.042), LIP)


def brows_and_nose(layer: Layer, style: str, t: float) -> None:
    nose = (LEAN + 0.31) * t
    layer.paint(ellipse(nose + 0.01, 0.18, 0.085, 0.075), SKIN, 0.80)
    layer.paint(ellipse(nose - 0.005, 0.155, 0.075, 0.070), SKIN, 1.0)
    for x, half in _eyes(t):
        layer.paint(stroke(x, -0.245, half + 0.02, -0.04, 0.032), HAIR, 0.84)


def eyes_open(layer: Layer, style: str, t: float) -> None:
    for x, half in _eyes(t):
        pupil = x + 0.05 * t
        layer.paint(ellipse(x, -0.05, half + 0.012, 0.142), INK)
        layer.paint(ellipse(x, -0.04, half, 0.126), WHITE)
        layer.paint(ellipse(pupil, -0.035, 0.072, 0.092), INK)
        layer.paint(ellipse(pupil - 0.025, -0.07, 0.026, 0.028), WHITE)


def no_eyes_open(layer: Layer, style: str, t: float) -> None:
    for x, half in _eyes(t):
        layer.paint(ellipse(x, -0.05, half, 0.12), SKIN, 0.90)
        layer.paint(stroke(x, -0.02, half, 0.06, 0.032), INK)


def glasses(layer: Layer, style: str, t: float) -> None:
    x, face = _face(t)
    for side in (-1, 1):
        middle = (LEAN + 0.21) * t + side * 0.225
        lens = ellipse(middle, -0.03, 0.170, 0.150)
        layer.paint(box(middle + side * 0.19, -0.07, x + side * 0.6, -0.015) & face, FRAME)
        layer.paint(ellipse(middle, -0.03, 0.222, 0.205) & ~lens, FRAME)
        layer.paint(lens, LENS, opacity=0.25)
    layer.paint(stroke((LEAN + 0.21) * t, -0.04, 0.06, -0.03, 0.03), FRAME)


def fringe(layer: Layer, style: str, t: float) -> None:
    """The hair in front of the face."""
    x, back, edge = _face(t)[0], (LEAN - 0.10) * t, (LEAN + 0.16) * t
    cap = ellipse(x - 0.04 * t, -0.06, WIDE + 0.08, TALL + 0.04)
    if style == "short":
        hair = cap & (Y < -0.28 - 0.10 * np.clip((X - edge) / 0.5, -1, 1))
        hair |= cap & (np.abs(X - x) > WIDE - 0.08) & (Y < 0.0)
    elif style == "long":
        hair = cap & ~ellipse(edge, 0.14, 0.43, 0.56) & (Y < 0.30)
        for side in (-1, 1):
            hair |= box(back + side * 0.46, -0.2, back + side * 0.66, 0.80, 0.09)
    elif style == "curly":
        hair = cap & (Y < -0.34)
        for place in np.linspace(-1, 1, 8):
            hair |= ellipse(edge + 0.46 * place, -0.34 + 0.10 * place**2, 0.11, 0.11)
        for side in (-1, 1):
            for y in (-0.18, 0.0):
                hair |= ellipse(x - 0.05 * t + side * 0.52, y, 0.11, 0.11)
    else:
        hair = cap & ~ellipse(edge - 0.28, -0.02, 0.34, 0.40) & ~ellipse(edge + 0.28, -0.02, 0.34, 0.40) & (Y < -0.10)
    layer.paint(hair, HAIR, np.clip(1.0 - 0.25 * ((Y + 0.42) / 0.3) ** 2, 0.78, 1))


def hat(layer: Layer, style: str, t: float) -> None:
    x = (LEAN + 0.01) * t
    layer.paint(ellipse(x, -0.48, 0.60, 0.48) & (Y < -0.46), HAT, np.clip(1.05 - 0.35 * ((X - x + 0.15) / 0.6) ** 2, 0, 1.08))
    layer.paint(box(x - 0.62, -0.57, x + 0.62, -0.39, 0.08), BAND, 1 - 0.12 * np.abs(X))
    layer.paint(ellipse(x, -0.92, 0.11, 0.08), BAND)


def scarf(layer: Layer, style: str, t: float) -> None:
    x = 0.5 * LEAN * t
    layer.paint(box(x + 0.10, 0.80, x + 0.34, 1.2, 0.05), SCARF, 0.82)
    layer.paint(box(x - 0.40, 0.68, x + 0.40, 0.90, 0.10), SCARF, 1.05 - 0.6 * (X - x) ** 2)
    layer.paint(box(x - 0.40, 0.755, x + 0.40, 0.80), WHITE, 1.0 - 0.4 * np.abs(X - x), opacity=0.7)


def earrings(layer: Layer, style: str, t: float) -> None:
    for side in (-1, 1):
        # Below the ear; on the side that the head turns to, where the ear is hidden, at the outline of the cheek.
        x = _face(t)[0] + side * (WIDE - 0.02) - (0.10 * t if side * t < 0 else 0)
        layer.paint(ellipse(x, 0.36, 0.105, 0.115) & ~ellipse(x, 0.35, 0.04, 0.05), GOLD, 1.05 - 0.5 * np.maximum(Y - 0.36, 0))


# From the back to the front. A part with an attribute's name is drawn if the attribute is 1, and its `no_` part if it is 0.
PARTS = (behind, beard, smile, no_smile, brows_and_nose, eyes_open, no_eyes_open, glasses, fringe, hat, scarf, earrings)


def draw() -> dict[str, np.ndarray]:
    """All drawings: `shares` (drawings, surfaces, 64, 64) and `fixed` (drawings, 64, 64, 3), uint8. Takes a few seconds."""
    turns = np.linspace(-1, 1, FACTORS.sizes[4])
    drawings = np.empty((len(STYLES), len(turns), *[2] * len(ATTRIBUTES), len(SURFACES) + 3, SIZE, SIZE), np.uint8)
    for style, turn in np.ndindex(len(STYLES), len(turns)):
        layers = {part.__name__: Layer() for part in PARTS}
        for part in PARTS:
            part(layers[part.__name__], STYLES[style], turns[turn])
        pixels = {name: layer.pixels() for name, layer in layers.items()}
        for values in np.ndindex(*[2] * len(ATTRIBUTES)):
            absent = {f"no_{name}" if value else name for name, value in zip(ATTRIBUTES, values, strict=True)}
            picture = np.zeros((len(SURFACES) + 3, SIZE, SIZE), np.float32)
            for name, layer in pixels.items():
                if name not in absent:
                    picture = picture * layer[-1] + layer[:-1]
            drawings[style, turn, *values] = np.rint(255 * np.clip(picture, 0, 1))
    drawings = drawings.reshape(-1, *drawings.shape[-3:])
    shares, fixed = drawings[:, : len(SURFACES)], np.moveaxis(drawings[:, len(SURFACES) :], 1, -1)
    # Rounding and shades above 1 must not take a pixel beyond 255.
    rest = 255 - np.minimum(shares.sum(axis=1, dtype=np.uint16), 255)[..., None]
    return dict(shares=shares, fixed=np.minimum(fixed, rest).astype(np.uint8))


class Faces2D(ColouredWorld):
    """Images (384000, 64, 64, 3) uint8 of faces2d, coloured when indexed. The drawings are cached in `data_dir`."""

    version = 1

    def __init__(self, data_dir: Path | str | None = None) -> None:
        drawn = rendered("faces2d", __file__, data_dir, draw)
        shares, fixed = (drawn[name].reshape(len(drawn[name]), *rest, -1) for name, rest in (("shares", (3,)), ("fixed", ())))
        colours = dict(zip(FACTORS.names, (BACKDROPS / 255, SKINS / 255, HAIRS / 255), strict=False))
        super().__init__(FACTORS, colours, fixed.astype(np.uint16) * 256 + 128, shares, scale=256)
