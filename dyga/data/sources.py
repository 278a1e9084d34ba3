"""Images from outside the package, read when indexed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from dyga.config import IMAGE_SUFFIXES, image_paths
from dyga.data.store import LazyImages


class FolderImages(LazyImages):
    """All images under a folder, in order of their paths, resized and centre-cropped to size x size RGB."""

    def __init__(self, folder: Path | str, size: int = 64) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ValueError(f"folder: {self.folder} is not a folder; need one with images in it")
        self.paths = image_paths(self.folder)
        if not self.paths:
            raise ValueError(f"folder: {self.folder} holds no images; valid endings are {', '.join(IMAGE_SUFFIXES)}")
        super().__init__(len(self.paths), size, size)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for image, index in zip(images, indices, strict=True):
            image[:] = read_image(self.paths[index], f"folder: {self.paths[index]}", self.shape[1])
        return images


def read_image(source: Path | BinaryIO, name: str, size: int = 64) -> np.ndarray:
    """An image file -> (size, size, 3) uint8: upright, on white where it is transparent, resized and centre-cropped.

    Grey levels of 16 bits and of floating point are scaled to 8 bits. ValueError with `name` if the file is no image.
    """
    try:
        with Image.open(source) as stored:
            stored.load()
            image = _rgb(_upright(stored))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} cannot be read as an image ({error})") from error
    return np.array(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is if they are damaged, which Pillow reports by many kinds of error."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB."""
    if image.mode.startswith(("I", "F")):
        levels = np.asarray(image, dtype=np.float64)
        if not np.isfinite(levels).all():
            raise ValueError("NaN or infinite grey levels")
        wide = image.mode.startswith("I;16") or levels.max() > 255
        top = 65_535 if wide else 1 if image.mode == "F" and levels.max() <= 1 else 255
        return Image.fromarray(np.rint(levels.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
