"""rooms3d: a ray-cast room with one object on the floor. Its six factors have the names and sizes of Shapes3D's.

There are 8 scales * 4 shapes * 15 orientations = 480 geometries. Each is ray-cast once, which gives the shade that each
surface (sky, floor, wall, object) contributes to each pixel. An image is the sum over surfaces of shade times colour.
"""

from __future__ import annotations

import colorsys
from functools import reduce
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from dyga.data.factors import Factors
from dyga.data.world import SIZE, Camera, ColouredWorld, Ray, quadric, rendered, slab

FACTORS = Factors(
    names=("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    sizes=(10, 10, 10, 8, 4, 15),
)
SHAPES = ("cube", "cylinder", "sphere", "capsule")
SURFACES = ("sky", "floor", "wall", "object")
SKY, FLOOR, WALL, OBJECT = range(4)

# The unit of length is about half an object's width at scale 1. y points up, and the object stands at the origin.
SCALES = np.linspace(0.64, 1.36, 8)
YAWS = np.deg2rad(np.linspace(-30, 30, 15))
HALF_WIDTHS = (0.84, 0.90, 1.06, 0.74)
HEIGHTS = (1.68, 1.95, 2.12, 2.50)
ROOM, WALL_HEIGHT = 6.0, 3.3
CAMERA_DISTANCE, CAMERA_HEIGHT, TARGET_HEIGHT, HALF_VIEW = 6.0, 3.1, 1.38, 0.38
SKY_COLOUR = (0.62, 0.87, 0.98)
LIGHT = np.array([0.02, 0.76, 0.65]) / np.linalg.norm([0.02, 0.76, 0.65])
LIGHT_RADIUS = 0.13  # tangent of the sun's apparent radius; a larger one makes the shadow's edge softer
AMBIENT, DIRECT = 0.58, 0.55

# Hues are 36 degrees apart at full saturation, so each channel is a multiple of 1/5. Shades are in units of 1 / FULL, so the
# sum of shade * (5 * channel) fits uint16 exactly, and its upper byte is the pixel's value.
HUES = np.array([colorsys.hsv_to_rgb(hue / 10, 1, 1) for hue in range(10)])
FULL = 255 * 256 // 5


def _span(shape: int, origin: Ray, direction: Ray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters at which rays enter and leave the object at scale 1. A ray misses it unless enter < leave."""
    radius, height = HALF_WIDTHS[shape], HEIGHTS[shape]
    (ox, oy, oz), (dx, dy, dz) = origin, direction

    if SHAPES[shape] == "cube":
        slabs = slab(ox, dx, -radius, radius), slab(oy, dy, 0, height), slab(oz, dz, -radius, radius)
        enters, leaves = zip(*slabs, strict=True)
        return reduce(np.maximum, enters), reduce(np.minimum, leaves)
    a, b, c = dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - radius**2
    enter, leave = quadric(a, b, c)
    if SHAPES[shape] == "cylinder":
        low, high = slab(oy, dy, 0, height)
        return np.maximum(enter, low), np.minimum(leave, high)
    # Capsule ends: a ray that meets the vertical tube outside its straight part can only hit the ball at that end.
    y = oy + enter * dy
    middle = oy - np.clip(y, radius, height - radius)
    ball_enter, ball_leave = quadric(a + dy * dy, b + middle * dy, c + middle * middle)
    straight = (y > radius) & (y < height - radius)
    return np.where(straight, enter, ball_enter), np.where(straight, leave, ball_leave)


def _object_shade(shape: int, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Shade of the object at points on its surface: sunlight, and skylight that fades toward the floor."""
    radius, height = HALF_WIDTHS[shape], HEIGHTS[shape]
    nx, ny, nz = x / radius, (y - np.clip(y, radius, height - radius)) / radius, z / radius
    if SHAPES[shape] == "cube":
        facing_x = np.abs(x) > np.abs(z)
        nx, nz = np.where(facing_x, np.sign(x), 0), np.where(facing_x, 0, np.sign(z))
    if SHAPES[shape] in ("cube", "cylinder"):
        ny = (height - y < 1e-3).astype(x.dtype)  # the flat top, else an upright side
        nx, nz = nx * (1 - ny), nz * (1 - ny)
    sun = np.maximum(nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], 0)
    sky = (0.87 + 0.13 * ny) * (1 - 0.25 * np.exp(-y / 0.5))
    return np.minimum(AMBIENT * sky + DIRECT * sun, 1)


class _Shadow:
    """Light on the floor around an object. The shadow scales with the object, so one map per shape is enough."""

    # Bounds of the map in x and z (light comes from +z), points per side, rays per point, and width of the faded border.
    LOW, HIGH = np.array([-2.8, -3.9]), np.array([2.8, 2.8])
    CELLS, RAYS, FADE = 112, 40, 1.2

    def __init__(self, shape: int) -> None:
        x, z = (axis.astype(np.float32) for axis in np.linspace(self.LOW, self.HIGH, self.CELLS).T)
        points = (x[:, None, None], np.float32(0), z[None, :, None])
        turn = np.arange(self.RAYS) * np.pi * (3 - np.sqrt(5)) + 0.5  # sunflower pattern: covers the disc evenly
        reach = np.sqrt((np.arange(self.RAYS) + 0.5) / self.RAYS)
        disc = np.stack([reach * np.cos(turn), reach * np.sin(turn)])
        side = np.cross(LIGHT, [0, 1, 0]) / np.linalg.norm(np.cross(LIGHT, [0, 1, 0]))
        sun = LIGHT[:, None] + LIGHT_RADIUS * (np.stack([side, np.cross(side, LIGHT)], axis=1) @ disc)
        sky = np.stack([disc[0], np.sqrt(1 - reach**2), disc[1]])  # cosine-weighted hemisphere
        # Some skylight is blocked even far away. It is faded out, so that the map's border is invisible.
        edge_x, edge_z = (np.minimum(axis - axis[0], axis[-1] - axis) for axis in (x, z))
        fade = np.clip(edge_x[:, None] / self.FADE, 0, 1) * np.clip(edge_z / self.FADE, 0, 1)
        fade *= 0.9  # indirect light in the room brightens the darkest point
        self.blocked = []
        for directions in (sun, sky):
            enter, leave = _span(shape, points, tuple(directions.astype(np.float32)))
            self.blocked.append(fade * np.mean((enter < leave) & (leave > 1e-3), axis=-1, dtype=np.float32))

    def at(self, x: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
        """Shares of sunlight and skylight that reach floor points, whose coordinates are in units of the object's scale."""
        cells = (np.stack([x, z], axis=-1) - self.LOW) * ((self.CELLS - 1) / (self.HIGH - self.LOW))
        return [1 - map_coordinates(share, cells.T, order=1, cval=0.0) for share in self.blocked]


class _View:
    """The empty room seen at one yaw: per ray its direction, surface, sun and sky shade and floor point."""

    def __init__(self, yaw: float) -> None:
        angle = np.pi / 4 + yaw  # at yaw 0 the camera faces the corner of the two walls
        eye = np.array([CAMERA_DISTANCE * np.sin(angle), CAMERA_HEIGHT, CAMERA_DISTANCE * np.cos(angle)])
        right = np.array([np.cos(angle), 0, -np.sin(angle)])
        self.camera = Camera(eye, np.array([0, TARGET_HEIGHT, 0]), right, HALF_VIEW)
        dx, dy, dz = self.camera.directions

        left, back = ((-ROOM - eye[i]) / np.minimum(ray, -1e-9) for i, ray in ((0, dx), (2, dz)))
        on_left = left < back
        wall = np.minimum(left, back)
        floor = np.where(dy < 0, -eye[1] / np.minimum(dy, -1e-9), np.inf)
        reach = np.minimum(wall, floor)
        x, y, z = eye[0] + reach * dx, eye[1] + reach * dy, eye[2] + reach * dz
        self.surface = np.where(floor < wall, FLOOR, np.where(y < WALL_HEIGHT, WALL, SKY)).astype(np.int8)

        tiles = np.where((np.floor(x / 1.5) + np.floor(z / 1.5)) % 2 == 0, 1.0, 0.93)
        far_x, far_z = x + ROOM, z + ROOM
        floor_open = (1 - 0.22 * np.exp(-far_x / 0.8)) * (1 - 0.22 * np.exp(-far_z / 0.8))
        along = np.where(on_left, far_z, far_x)  # distance from the corner
        wall_open = (1 - 0.20 * np.exp(-along / 0.8)) * (1 - 0.15 * np.exp(-y / 0.8))
        seam = np.where(np.abs((along + 1.0) % 2.0 - 1.0) < 0.07, 0.84, 1.0)
        trim = np.where(y < 0.45, 0.72, np.where(y > WALL_HEIGHT - 0.25, 1.12, seam))
        wall_sun = np.where(on_left, max(LIGHT[0], 0), max(LIGHT[2], 0))
        height = dy / np.sqrt(dx * dx + dy * dy + dz * dz)
        which = [self.surface == FLOOR, self.surface == WALL]
        skylight = np.select(which, [AMBIENT * tiles * floor_open, AMBIENT * trim * wall_open], 1 - 0.35 * height)
        sunlight = np.select(which, [DIRECT * LIGHT[1] * tiles, DIRECT * wall_sun * trim], 0)
        self.sky, self.sun = skylight.astype(np.float32), sunlight.astype(np.float32)
        self.direction = tuple(d.astype(np.float32) for d in (dx, dy, dz))
        self.x, self.z = x.astype(np.float32), z.astype(np.float32)
        self.empty = _shares(self.surface, np.minimum(self.sky + self.sun, 1))

    def window(self, scale: float) -> tuple[slice, slice]:
        """Rows and columns of the pixels that an object of this scale or its shadow can cover."""
        (low_x, low_z), (high_x, high_z) = _Shadow.LOW, _Shadow.HIGH
        box = [(x, 0, z) for x in (low_x, high_x) for z in (low_z, high_z)]
        box += [(x, max(HEIGHTS), z) for x in (-1, 1) for z in (-1, 1)]
        return self.camera.window(np.array(box) * scale)

    def with_object(self, scale: float, shape: int, shadow: _Shadow) -> np.ndarray:
        """Shade that each surface contributes to each pixel, (surfaces, SIZE, SIZE), with an object in the room."""
        crop = (slice(None), *self.window(scale))
        eye = tuple(np.float32(self.camera.eye / scale))
        direction = tuple(d[crop] for d in self.direction)
        enter, leave = _span(shape, eye, direction)
        hit = enter < leave
        surface, shade = self.surface[crop].copy(), np.minimum(self.sky[crop] + self.sun[crop], 1)
        floor = (surface == FLOOR) & ~hit
        sun, sky = shadow.at(self.x[crop][floor] / scale, self.z[crop][floor] / scale)
        shade[floor] = np.minimum(self.sky[crop][floor] * sky + self.sun[crop][floor] * sun, 1)
        points = (eye[axis] + enter[hit] * direction[axis][hit] for axis in range(3))
        surface[hit], shade[hit] = OBJECT, _object_shade(shape, *points)
        shares = self.empty.copy()
        shares[crop] = _shares(surface, shade)
        return shares


def _shares(surface: np.ndarray, shade: np.ndarray) -> np.ndarray:
    return np.stack([np.mean(shade * (surface == s), axis=0) for s in range(len(SURFACES))])


def ray_cast() -> np.ndarray:
    """Shade of all geometries (480, surfaces, 64, 64) uint16, in units of 1 / FULL. Takes a few seconds."""
    shades = np.empty((*FACTORS.sizes[3:], len(SURFACES), SIZE, SIZE), np.uint16)
    with np.errstate(divide="ignore", invalid="ignore"):  # rays parallel to a surface meet it at infinity
        shadows = [_Shadow(shape) for shape in range(len(SHAPES))]
        for orientation, yaw in enumerate(YAWS):
            view = _View(yaw)
            for scale, shape in np.ndindex(len(SCALES), len(SHAPES)):
                shares = view.with_object(SCALES[scale], shape, shadows[shape])
                shades[scale, shape, orientation] = np.rint(shares * FULL)
    return shades.reshape(-1, *shades.shape[3:])


class Rooms3D(ColouredWorld):
    """Images (480000, 64, 64, 3) uint8 of rooms3d, coloured when indexed. The ray-cast shades are cached in `data_dir`."""

    version = 1

    def __init__(self, data_dir: Path | str | None = None) -> None:
        shades = rendered("rooms3d", __file__, data_dir, lambda: {"shades": ray_cast()})["shades"]
        flat = shades.reshape(len(shades), len(SURFACES), -1)
        # Adds half a step, so that taking the upper byte rounds to nearest.
        sky = np.rint(flat[:, SKY, :, None] * (5 * np.array(SKY_COLOUR))) + 128
        fixed = sky.reshape(len(shades), -1).astype(np.uint16)
        super().__init__(FACTORS, dict.fromkeys(FACTORS.names[:3], HUES), fixed, flat[:, FLOOR:], scale=5)
