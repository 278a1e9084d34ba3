"""Prepared data sets in the on-disk format of Hugging Face `datasets`: written in shards, read through memory maps.

`datasets.load_from_disk` opens the folder. A row holds `image`, 12,288 numbers uint8 (64 x 64 x 3), and `factors`.
"""

from __future__ import annotations

import json
import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dyga.data import readers
from dyga.data.catalog import Source
from dyga.data.download import find_or_fetch
from dyga.data.store import LazyImages
from dyga.provenance import locked

SHARD = 10_000  # a multiple of the readers' BATCH


def prepare(name: str, source: Source, data_dir: Path) -> None:
    """Downloads and checks the files of `source`, and converts them to the folder `data_dir`/`name`, unless it is there.

    An interrupted call resumes after its last complete shard. ValueError if the folder holds anything else, and for a file that
    is not the expected one (no folder is left then); ConnectionError if a download fails.
    """
    target, partial = data_dir / name, data_dir / f"{name}.{source.digest}.partial"
    if (target / "state.json").exists():
        return
    with locked(data_dir, patience=86_400, name=f".{name}.lock", temporary=True):
        if not (target / "state.json").exists():  # another process may have made it meanwhile
            _prepare(name, source, target, partial)


def _prepare(name: str, source: Source, target: Path, partial: Path) -> None:
    if target.exists():
        raise ValueError(f"{target} is not a prepared data set: move it elsewhere or delete it")
    files = [find_or_fetch(file, target.parent) for file in source.files]
    partial.mkdir(parents=True, exist_ok=True)
    shards = [partial / f"data-{i:05d}.arrow" for i in range(-(-source.count // SHARD))]
    done = next((i for i, shard in enumerate(shards) if not shard.exists()), len(shards))
    start = done * SHARD
    batches = source.read(files, source.count, start)
    with tqdm(total=source.count, initial=start, desc=name, unit="image", mininterval=5, delay=2, ascii=True) as bar:
        for shard in shards[done:]:
            parts = list(islice(batches, SHARD // readers.BATCH))
            end = start + sum(len(images) for images, _ in parts)
            if end < min(start + SHARD, source.count):
                shutil.rmtree(partial)
                raise ValueError(f"{name}: expected {source.count:,} images, found {end:,}")
            images, values = zip(*parts, strict=True)
            known = source.factors.values(np.arange(start, end)) if values[0] is None else np.concatenate(values)
            _write_shard(shard, np.concatenate(images), known)
            bar.update(end - start)
            start = end
    _describe(partial, shards, source)
    os.replace(partial, target)


def _features(columns: int):
    from datasets import Features, List, Value

    return Features({"image": List(Value("uint8"), length=64 * 64 * 3), "factors": List(Value("uint8"), length=columns)})


def _write_shard(path: Path, images: np.ndarray, values: np.ndarray) -> None:
    import pyarrow as pa

    parts = images.reshape(len(images), -1), values.astype(np.uint8)
    columns = [pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1]) for part in parts]
    schema, temporary = _features(values.shape[1]).arrow_schema, path.with_suffix(".tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    os.replace(temporary, path)


def _describe(folder: Path, shards: list[Path], source: Source) -> None:
    """Writes the description files of `datasets`, and the factors' names and sizes."""
    from datasets import DatasetInfo

    names, sizes = source.factors.names, source.factors.sizes
    DatasetInfo(features=_features(len(names))).write_to_directory(folder)
    (folder / "factors.json").write_text(json.dumps({"names": names, "sizes": sizes, "files": source.digest}))
    state = dict.fromkeys(("_format_columns", "_format_type", "_split"))
    state |= {"_fingerprint": source.digest, "_format_kwargs": {}, "_output_all_columns": False}
    state["_data_files"] = [{"filename": shard.name} for shard in shards]
    (folder / "state.json").write_text(json.dumps(state, indent=1))


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
            factors = np.concatenate([self._numbers(table, "factors").reshape(table.num_rows, -1) for table in tables])
            self.factor_names, self.factor_sizes = tuple(described["names"]), tuple(described["sizes"])
            self.factors, self.digest = factors.astype(np.int64), described.get("files")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowInvalid) as error:
            raise ValueError(f"{folder}: damaged ({error}); delete it and prepare it again") from None
        super().__init__(len(factors), 64, 64)

    @staticmethod
    def _numbers(table, column: str) -> np.ndarray:
        """The column's numbers without a copy. A shard is one record batch, so a column is one chunk."""
        (chunk,) = table.column(column).chunks
        return chunk.flatten().to_numpy(zero_copy_only=True)

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), 64, 64, 3), np.uint8)
        for image, shard, row in zip(images, *divmod(indices, SHARD), strict=True):
            image[:] = self._shards[shard][row]
        return images
