"""The user's own images, read when indexed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from dyga.config import IMAGE_SUFFIXES as SUFFIXES
from dyga.data.store import LazyImages


class FolderImages(LazyImages):
    """All images under a folder, sorted by path, resized and centre-cropped to (n, size, size, 3) uint8.

    ValueError if the folder is missing or holds no images. Indexing raises a ValueError that names an unreadable image.
    """

    def __init__(self, folder: Path | str, size: int = 64) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ValueError(f"folder: {self.folder} is not a folder; need one with images in it")
        self.paths = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not self.paths:
            raise ValueError(f"folder: {self.folder} holds no images; valid endings are {', '.join(SUFFIXES)}")
        super().__init__(len(self.paths), size, size)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for image, index in zip(images, indices, strict=True):
            image[:] = read_image(self.paths[index], f"folder: {self.paths[index]}", self.shape[1])
        return images


def read_image(source: Path | BinaryIO, name: str, size: int = 64) -> np.ndarray:
    """Reads an image file, turns it upright, resizes and centre-crops it: (size, size, 3) uint8.

    ValueError, starting with `name`, if the file cannot be read as an image.
    """
    try:
        with Image.open(source) as stored:
            upright = ImageOps.exif_transpose(stored).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} cannot be read as an image ({error})") from error
    return np.array(ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS))
