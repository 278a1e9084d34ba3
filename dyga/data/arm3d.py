"""arm3d: a robot arm that holds an object with a suction cup. Its seven factors have the names of MPI3D's, but other sizes.

There are 3 camera heights * 20 * 20 axis positions = 1,200 poses. Each is ray-cast once, into the share of the backdrop in each
pixel and the fixed colours of the arm. The 12 objects of each pose are ray-cast into a small window of coverage and shade. An
image is the pose in front of its backdrop, with the object, whose shades are looked up in a palette, blended over it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyga.data.factors import Factors
from dyga.data.world import SAMPLES, SIZE, Camera, Ray, World, quadric, rendered, slab

FACTORS = Factors(
    names=(
        *("object_color", "object_shape", "object_size"),
        *("camera_height", "background_color", "horizontal_axis", "vertical_axis"),
    ),
    sizes=(6, 6, 2, 3, 3, 20, 20),
)
SHAPES = ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere")
COLOURS = np.array([(245, 245, 242), (52, 190, 72), (225, 48, 48), (48, 96, 232), (128, 74, 36), (164, 160, 30)])
# Muted purple, sea green and salmon. The backdrop fills most of the picture; vivid ones make 63% of the variance that a denoiser
# sees, and the object's colour then only 11%.
BACKDROPS = np.array([(168, 150, 190), (140, 182, 164), (206, 160, 146)])
WINDOW = 26  # pixels per side of the window around an object

# y points up, the column stands at the origin, and the camera looks along -z.
YAWS, PITCHES = np.deg2rad(np.linspace(-66, 66, 20)), np.deg2rad(np.linspace(-22, 44, 20))
ELEVATIONS = np.deg2rad([9, 27, 47])
SIZES = (0.80, 1.28)
DISTANCE, HALF_VIEW, TARGET = 11.0, 0.246, np.array([0, 1.72, 0.35])
FOOT, SHOULDER, REACH, ROD = np.array([0, 0.3, 0]), np.array([0, 2.35, 0]), 1.95, 0.26
LIGHT = np.array([-0.45, 0.80, 0.55]) / np.linalg.norm([-0.45, 0.80, 0.55])
HIGHLIGHT = 200  # an object's shades up to this darken its colour, those above mix it with white
STEEL, DARK, ACCENT = np.array([(0.86, 0.88, 0.91), (0.25, 0.27, 0.32), (0.98, 0.66, 0.12)], np.float32)

# Radius and height of the shapes at size 1. They hang from the cup at the origin.
ROUND = {"cone": (0.42, 1.0), "cylinder": (0.31, 0.98), "sphere": (0.46, 0.92)}
FLAT = {"cube": (0.40, 0.80), "hexagonal": (0.52, 0.40), "pyramid": (0.50, 0.74)}
GLOSS = {"cone": 0.6, "cylinder": 0.6, "sphere": 1.0}  # on a flat side a highlight would bleach all of it
Capsule = tuple[np.ndarray, np.ndarray, float]  # start, end and radius


def _dot(a: Ray, b: Ray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _moving_parts(yaw: float, pitch: float) -> tuple[list[tuple[Capsule, np.ndarray]], np.ndarray]:
    """The moving capsules of a pose with their colours, and the point from which the object hangs."""
    along = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    wrist = SHOULDER + REACH * along
    cup = wrist - [0, ROD, 0]
    parts = [
        ((SHOULDER - 0.55 * along, SHOULDER - 0.35 * along, 0.24), DARK),
        ((SHOULDER, wrist, 0.17), STEEL),
        ((SHOULDER + 0.80 * along, SHOULDER + 1.0 * along, 0.18), ACCENT),
        ((wrist, wrist, 0.21), DARK),
        ((wrist, cup, 0.065), STEEL),
    ]
    return parts, cup


class _View(Camera):
    """The scene from one camera height: per ray the distance and colour of the nearest surface, and the backdrop's shade."""

    def __init__(self, elevation: float) -> None:
        eye = TARGET + DISTANCE * np.array([0, np.sin(elevation), np.cos(elevation)])
        super().__init__(eye, TARGET, np.array([1.0, 0, 0]), HALF_VIEW)
        length = np.sqrt(_dot(self.directions, self.directions))
        self.rays = [(d / length).astype(np.float32) for d in self.directions]

        dx, dy, dz = self.rays
        ground = dy < 0
        far = -eye[1] / np.minimum(dy, -1e-6)
        self.x, self.z = ((eye[i] + far * ray).mean(axis=0) for i, ray in ((0, dx), (2, dz)))
        radius = np.hypot(eye[0] + far * dx, eye[2] + far * dz)
        floor = 0.66 + 0.30 * np.exp(-((radius / 5.0) ** 2))
        floor *= np.where(radius < 2.75, 1.08, 1) * np.where(np.abs(radius - 2.75) < 0.06, 0.80, 1)
        self.shade = np.where(ground, floor, 0.66 + 0.5 * np.clip(dy, 0, 1)).astype(np.float32)
        self.depth = np.where(ground, far, 1e3).astype(np.float32)
        self.colour = np.zeros((*dx.shape, 3), np.float32)
        self.fixed = np.zeros(dx.shape, bool)
        self._disc(0.62, 0.0, 0.22, DARK)
        self._disc(0.44, 0.22, 0.36, ACCENT)
        self.add((FOOT, SHOULDER, 0.25), STEEL)
        self.add((SHOULDER, SHOULDER, 0.36), ACCENT)

    def copy(self) -> _View:
        """A view to which parts can be added without a change to this one."""
        other = object.__new__(_View)
        other.__dict__ = self.__dict__ | {name: getattr(self, name).copy() for name in ("depth", "colour", "fixed")}
        return other

    def _disc(self, radius: float, low: float, high: float, colour: np.ndarray) -> None:
        """Adds an upright cylinder around the column."""
        (ox, oy, oz), (dx, dy, dz) = self.eye, self.rays
        enter, leave = quadric(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - radius**2)
        first, last = slab(oy, dy, low, high)
        t = np.maximum(enter, first)
        hit = (t < np.minimum(leave, last)) & (t < self.depth)
        top = first > enter
        normal = np.where(top, 0, (ox + t * dx) / radius), top * 1.0, np.where(top, 0, (oz + t * dz) / radius)
        self._paint((...,), hit, t[hit], [n[hit] for n in normal], colour)

    def add(self, part: Capsule, colour: np.ndarray) -> None:
        """Adds a capsule where it is nearer than what is there."""
        start, end, radius = part
        crop = (slice(None), *self.window(np.stack([start, end]), radius))
        rays, origin, axis = [r[crop] for r in self.rays], np.float32(self.eye - start), np.float32(end - start)
        # The nearest point of the axis decides whether a ray meets the tube or the ball at one end.
        length, along = axis @ axis, _dot(axis, rays)
        b, c = _dot(origin, rays), origin @ origin - np.float32(radius**2)
        t, place = quadric(np.float32(1), b, c)[0], np.float32(0)
        if length:
            ahead = origin @ axis
            tube = quadric(length - along**2, length * b - ahead * along, length * c - ahead**2)[0]
            place = np.clip((ahead + np.where(np.isfinite(tube), tube, 0) * along) / length, 0, 1)
            last = origin - axis
            ball = quadric(np.float32(1), _dot(last, rays), last @ last - np.float32(radius**2))[0]
            t = np.where(place == 0, t, np.where(place == 1, ball, tube))
        hit = t < self.depth[crop]
        t, rays, place = t[hit], [r[hit] for r in rays], np.broadcast_to(place, hit.shape)[hit]
        normal = [(origin[i] + t * rays[i] - place * axis[i]) / np.float32(radius) for i in range(3)]
        self._paint(crop, hit, t, normal, colour)

    def _paint(self, crop: tuple, hit: np.ndarray, t: np.ndarray, normal: Ray, colour: np.ndarray) -> None:
        """Key light, skylight and a highlight on a surface of the arm."""
        facing, rays = _dot(normal, LIGHT), [r[crop][hit] for r in self.rays]
        mirror = np.maximum(_dot(LIGHT, rays) - 2 * facing * _dot(normal, rays), 0)
        light = np.minimum(0.40 + 0.12 * normal[1] + 0.52 * np.maximum(facing, 0) + 0.30 * mirror**12, 1.12)
        self.depth[crop][hit], self.fixed[crop][hit] = t, True
        self.colour[crop][hit] = light[:, None] * colour

    def shadow(self, parts: list[Capsule]) -> np.ndarray:
        """Share of the light (SIZE, SIZE) that reaches the ground below capsules. The shadow of higher ones is softer."""
        light = np.ones_like(self.x)
        for start, end, radius in parts:
            # Along the light everything is flat: the shadow of a capsule is that of its projected axis.
            first, last = (p[[0, 2]] - p[1] / LIGHT[1] * LIGHT[[0, 2]] for p in (start, end))
            axis = last - first
            along = ((self.x - first[0]) * axis[0] + (self.z - first[1]) * axis[1]) / max(axis @ axis, 1e-9)
            along = np.clip(along, 0, 1)
            away = np.hypot(self.x - first[0] - along * axis[0], self.z - first[1] - along * axis[1])
            soft = 0.06 + 0.10 * (start[1] + along * (end[1] - start[1]))
            covered = 1 / (1 + np.exp(np.clip((away - radius) / (0.35 * soft), -30, 30)))
            light *= 1 - 0.42 * covered * np.minimum(1, radius / (0.6 * soft))
        return np.maximum(light, 0.5)

    def layers(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the backdrop (SIZE, SIZE) and fixed colours (SIZE, SIZE, 3) of the pixels, uint8."""
        backdrop = (self.shade * ~self.fixed).mean(axis=0) * light
        return tuple(np.rint(255 * np.minimum(part, 1)).astype(np.uint8) for part in (backdrop, self.colour.mean(axis=0)))


def _span(shape: str, origin: np.ndarray, rays: Ray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ray parameters at which rays enter and leave a shape, and the number of the face where they enter (0: the round side)."""
    (ox, oy, oz), (dx, dy, dz) = origin, rays
    if shape in ROUND:
        radius, height = ROUND[shape]
        slope = np.float32((radius / height) ** 2 if shape == "cone" else 0)
        a, b, c = dx * dx + dz * dz - slope * dy * dy, ox * dx + oz * dz - slope * oy * dy, ox * ox + oz * oz - slope * oy * oy
        if shape == "sphere":
            a, b, c = np.float32(1), b + (oy + radius) * dy, c + (oy + radius) ** 2
        enter, leave = quadric(a, b, c if shape == "cone" else c - np.float32(radius**2))
        first, last = slab(oy, dy, -height, 0)
        return np.maximum(enter, first), np.minimum(leave, last), first > enter
    enter, leave = (np.full(dx.shape, value, np.float32) for value in (-np.inf, np.inf))
    face = np.zeros(dx.shape, np.int8)
    for number, (normal, offset) in enumerate(zip(*_planes(shape), strict=True)):
        # From one origin, the rays that meet a plane either all enter its half-space or all leave it.
        speed, ahead = _dot(normal, rays), offset - normal @ origin
        at = ahead / speed
        if ahead < 0:
            at = np.where(speed < 0, at, np.inf)
            face = np.where(at > enter, np.int8(number), face)
            enter = np.maximum(at, enter)
        else:
            leave = np.where(speed > 0, np.minimum(leave, at), leave)
    return enter, leave, face


def _planes(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (faces, 3) and offsets (faces,) of the half-spaces n . x < offset whose intersection is a shape with flat
    sides."""
    radius, height = FLAT[shape]
    sides = 6 if shape == "hexagonal" else 4
    turn = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    rise = radius / height if shape == "pyramid" else 0
    around = np.stack([np.cos(turn), np.full(sides, rise), np.sin(turn)], axis=1) / np.hypot(1, rise)
    normals, offsets = [*around, (0, -1, 0), (0, 1, 0)], [0 if rise else radius] * sides + [height, 0]
    return np.float32(normals), np.float32(offsets)


def _normals(shape: str, points: Ray, face: np.ndarray) -> Ray:
    """Unit normals (3, n) at points of a shape's surface."""
    if shape in FLAT:
        return _planes(shape)[0][face].T
    (radius, height), (x, y, z) = ROUND[shape], points
    up = {"sphere": y + radius, "cone": -((radius / height) ** 2) * y, "cylinder": 0 * y}[shape]
    length = np.sqrt(x * x + up * up + z * z)
    return [np.where(face, number == 1, part / length) for number, part in enumerate((x, up, z))]


def _objects(view: _View, size: float, yaw: float, cup: np.ndarray, crop: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mean shade of the pixels (shapes, rows, columns), uint8, for objects that hang from the cup and turn with the
    arm."""
    # In the object's own frame the cup is at the origin and the size is 1.
    turn = np.float32([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    origin, light = turn @ np.float32(view.eye - cup) / np.float32(size), turn @ np.float32(LIGHT)
    world = [r[crop] for r in view.rays]
    rays = [_dot(row, world) for row in turn]
    lit, depth = _dot(light, rays), view.depth[crop] / np.float32(size)
    cover, shade = np.zeros((2, len(SHAPES), *depth.shape[1:]), np.uint8)
    for number, shape in enumerate(SHAPES):
        enter, leave, face = _span(shape, origin, rays)
        hit = (enter < leave) & (enter < depth)
        t, seen = enter[hit], [r[hit] for r in rays]
        normal = _normals(shape, [o + t * r for o, r in zip(origin, seen, strict=True)], face[hit])
        facing = _dot(normal, light)
        mirror = np.maximum(lit[hit] - 2 * facing * _dot(normal, seen), 0)
        values = np.zeros(hit.shape, np.float32)
        values[hit] = HIGHLIGHT * np.minimum(0.50 + 0.13 * normal[1] + 0.52 * np.maximum(facing, 0), 1)
        values[hit] += GLOSS.get(shape, 0.2) * (255 - HIGHLIGHT) * mirror**16
        count = hit.sum(axis=0)
        cover[number] = np.rint(255 / SAMPLES**2 * count)
        shade[number] = np.rint(values.sum(axis=0) / np.maximum(count, 1))
    return cover, shade


def ray_cast() -> dict[str, np.ndarray]:
    """All poses and objects: `backdrop` (poses, 64, 64), `fixed` (poses, 64, 64, 3), `corner` (poses, 2) of the windows, and
    `cover` and `shade` (poses, sizes, shapes, WINDOW, WINDOW), all uint8. Takes 12 to 20 seconds."""
    poses = FACTORS.sizes[3], *FACTORS.sizes[5:]
    backdrop, fixed = np.empty((*poses, SIZE, SIZE), np.uint8), np.empty((*poses, SIZE, SIZE, 3), np.uint8)
    corner = np.empty((*poses, 2), np.uint8)
    cover, shade = (np.zeros((*poses, len(SIZES), len(SHAPES), WINDOW, WINDOW), np.uint8) for _ in range(2))
    with np.errstate(all="ignore"):  # rays parallel to a surface meet it at infinity
        for camera, elevation in enumerate(ELEVATIONS):
            empty = _View(elevation)
            for h, v in np.ndindex(*poses[1:]):
                pose, view = (camera, h, v), empty.copy()
                parts, cup = _moving_parts(YAWS[h], PITCHES[v])
                for part in parts:
                    view.add(*part)
                middle = cup - [0, 0.45, 0]  # a ball stands for the object, so that its shadow is the same for all
                light = view.shadow([*(part for part, _ in parts), (FOOT, SHOULDER, 0.25), (middle, middle, 0.40)])
                backdrop[pose], fixed[pose] = view.layers(light)
                around = view.window((cup - [0, 0.48 * max(SIZES), 0])[None], 0.70)
                corner[pose] = [min(max((s.start + s.stop) // 2 - WINDOW // 2, 0), SIZE - WINDOW) for s in around]
                for s, size in enumerate(SIZES):
                    box = view.window((cup - [0, 0.5 * size, 0])[None], 0.72 * size)
                    ends = zip(box, corner[pose].tolist(), strict=True)
                    box = [slice(max(b.start, first), min(b.stop, first + WINDOW)) for b, first in ends]
                    ends = zip(box, corner[pose].tolist(), strict=True)
                    inner = tuple(slice(b.start - first, b.stop - first) for b, first in ends)
                    found = _objects(view, size, YAWS[h], cup, (slice(None), *box))
                    cover[pose][s, :, *inner], shade[pose][s, :, *inner] = found
    return dict(backdrop=backdrop, fixed=fixed, corner=corner, cover=cover, shade=shade)


class Arm3D(World):
    """Images (259200, 64, 64, 3) uint8 of arm3d, put together when indexed. What was ray-cast is cached in `data_dir`."""

    version = 1

    def __init__(self, data_dir: Path | str | None = None) -> None:
        super().__init__(FACTORS, {"object_color": COLOURS / 255, "background_color": BACKDROPS / 255})
        cast = rendered("arm3d", __file__, data_dir, ray_cast)
        backdrop, fixed = cast["backdrop"].reshape(-1, SIZE, SIZE, 1), cast["fixed"].reshape(-1, SIZE, SIZE, 3)
        # Each pose in front of each backdrop, ready to be copied: 44 MB.
        scenes = [np.minimum((backdrop * c.astype(np.uint16) + 128) // 255 + fixed, 255).astype(np.uint8) for c in BACKDROPS]
        self._scenes = np.concatenate(scenes)
        self._corners = cast["corner"].reshape(-1, 2).astype(int)
        # Blending is modulo 2^16, so the upper byte of (colour - pixel) * cover is what must be added to the pixel modulo 2^8.
        self._cover = np.rint(cast["cover"].reshape(-1, WINDOW, WINDOW, 1) * (256 / 255)).astype(np.uint16)
        self._shade = cast["shade"].reshape(-1, WINDOW, WINDOW)
        value = np.arange(256)[:, None]
        dark, white = np.minimum(value / HIGHLIGHT, 1), np.clip((value - HIGHLIGHT) / (255 - HIGHLIGHT), 0, 1)
        tones = COLOURS[:, None] * dark
        self._palettes = np.rint(tones + 0.75 * white * (255 - tones)).astype(np.uint16)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        colour, shape, size, camera, back, h, v = np.unravel_index(indices, FACTORS.sizes)
        pose = (camera * FACTORS.sizes[5] + h) * FACTORS.sizes[6] + v
        images = self._scenes[back * len(self._corners) + pose]
        objects = (pose * len(SIZES) + size) * len(SHAPES) + shape
        corners = self._corners[pose].tolist()
        for image, (top, left), which, c in zip(images, corners, objects.tolist(), colour.tolist(), strict=True):
            window = image[top : top + WINDOW, left : left + WINDOW]
            change = self._palettes[c].take(self._shade[which], axis=0)
            change -= window
            change *= self._cover[which]
            change >>= 8
            window += change.astype(np.uint8)
        return images
