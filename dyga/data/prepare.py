"""Prepared data sets in the on-disk format of Hugging Face `datasets`: written in shards, read through memory maps.

`datasets.load_from_disk` opens the folder. A row holds `image`, 12,288 numbers uint8 (64 x 64 x 3), and `factors`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dyga.data.catalog import Source
from dyga.data.download import find_or_fetch
from dyga.data.store import LazyImages

SHARD = 10_000
ROW = 64 * 64 * 3


def prepare(name: str, source: Source, data_dir: Path) -> Path:
    """Downloads and checks the files of `source`, converts them, and returns the folder `data_dir`/`name`.

    A finished folder is returned at once. An interrupted call resumes after its last complete shard. ValueError for a file that
    is not the expected one (no folder is left then), ConnectionError if a download fails.
    """
    target, partial = data_dir / name, data_dir / f"{name}.{digest_of(source)}.partial"
    if (target / "state.json").exists():
        return target
    files = [find_or_fetch(file, data_dir) for file in source.files]
    partial.mkdir(parents=True, exist_ok=True)
    shards = [partial / f"data-{i:05d}.arrow" for i in range(-(-source.count // SHARD))]
    done = next((i for i, shard in enumerate(shards) if not shard.exists()), len(shards))
    try:
        _write_shards(files, source, shards, done)
    except ValueError:
        shutil.rmtree(partial)
        raise
    _describe(partial, shards, source)
    os.replace(partial, target)
    return target


def _write_shards(files: list[Path], source: Source, shards: list[Path], done: int) -> None:
    start = done * SHARD
    if start >= source.count:
        return
    name = shards[0].parent.name.split(".")[0]
    bar = tqdm(total=source.count, initial=start, desc=name, unit="image", mininterval=5, delay=2, ascii=True)
    held_images, held_values, written = [], [], start
    with bar:
        for images, values in source.read(files, source.count, start):
            first = written + sum(map(len, held_images))
            held_images.append(images)
            held_values.append(source.factors.values(np.arange(first, first + len(images))) if source.factors else values)
            bar.update(len(images))
            held = sum(map(len, held_images))
            while held >= SHARD or (held and written + held == source.count):
                images, values = np.concatenate(held_images), np.concatenate(held_values)
                count = min(SHARD, held)
                _write_shard(shards[written // SHARD], images[:count], values[:count])
                held_images, held_values, held = [images[count:]], [values[count:]], held - count
                written += count
    if written != source.count:
        found = written + sum(map(len, held_images))
        raise ValueError(f"{name}: expected {source.count:,} images, found {found:,}")


def _schema(columns: int):
    from datasets import Features, List, Value

    return Features({"image": List(Value("uint8"), length=ROW), "factors": List(Value("uint8"), length=columns)}).arrow_schema


def _write_shard(path: Path, images: np.ndarray, values: np.ndarray) -> None:
    import pyarrow as pa

    schema = _schema(values.shape[1])
    flat = (images.reshape(-1), values.astype(np.uint8).reshape(-1))
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(part), size) for part, size in zip(flat, (ROW, values.shape[1]), strict=True)
    ]
    temporary = path.with_suffix(".tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    os.replace(temporary, path)


def _describe(folder: Path, shards: list[Path], source: Source) -> None:
    """Writes the description files of `datasets`: the library makes them for one row, and the list of shards is replaced."""
    import datasets

    sample = folder / "sample"
    datasets.disable_progress_bars()
    datasets.Dataset.from_file(str(shards[0])).select([0]).save_to_disk(str(sample))
    datasets.enable_progress_bars()
    state = json.loads((sample / "state.json").read_text())
    state["_data_files"] = [{"filename": shard.name} for shard in shards]
    shutil.copy(sample / "dataset_info.json", folder)
    names = source.factors.names if source.factors else source.attributes
    sizes = source.factors.sizes if source.factors else [2] * len(names)
    (folder / "factors.json").write_text(json.dumps({"names": names, "sizes": sizes, "files": digest_of(source)}))
    (folder / "state.json").write_text(json.dumps(state, indent=1))
    shutil.rmtree(sample)


def digest_of(source: Source) -> str:
    """16 hexadecimal digits for the published files that a data set is made of, from the digests in the catalogue."""
    return hashlib.sha256("".join(file.digest for file in source.files).encode()).hexdigest()[:16]


class PreparedImages(LazyImages):
    """Images (n, 64, 64, 3) uint8 of a prepared data set, copied from memory-mapped shards when indexed.

    `factors` (n, factors) int64, `factor_names` and `factor_sizes` describe them; `digest` is that of the published files.
    ValueError, naming the folder, if damaged.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        try:
            listed = json.loads((folder / "state.json").read_text())["_data_files"]
            described = json.loads((folder / "factors.json").read_text())
            tables = [pa.ipc.open_stream(pa.memory_map(str(folder / part["filename"]))).read_all() for part in listed]
            self._shards = [self._numbers(table, "image").reshape(-1, 64, 64, 3) for table in tables]
            self.factors = np.concatenate([self._numbers(table, "factors").reshape(table.num_rows, -1) for table in tables])
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise ValueError(f"{folder}: damaged ({error}); delete it and prepare it again") from None
        self.factors = self.factors.astype(np.int64)
        self.factor_names, self.factor_sizes = tuple(described["names"]), tuple(described["sizes"])
        self.digest = described.get("files", "")
        super().__init__(sum(map(len, self._shards)), 64, 64)

    @staticmethod
    def _numbers(table, column: str) -> np.ndarray:
        """The column's numbers without a copy. A shard is one record batch, so a column is one chunk."""
        (chunk,) = table.column(column).chunks
        return chunk.flatten().to_numpy(zero_copy_only=True)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), 64, 64, 3), np.uint8)
        for place, (shard, row) in enumerate(zip(*divmod(indices, SHARD), strict=True)):
            images[place] = self._shards[shard][row]
        return images
