"""From a small file in a published format to a prepared data set: whole, resumed, or not there."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import datasets
import h5py
import numpy as np
import pytest

from dyga.__main__ import main
from dyga.data import CATALOG, DATASETS, RENDERED, load_dataset, prepare, prepare_dataset, readers
from dyga.data.catalog import RemoteFile, Source
from dyga.data.factors import Factors

SIZES = Factors(("hue", "shape"), (13, 10))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """shapes3d in its own format with 130 images in shards of 50, its file in place; returns the folder and the images."""
    images = np.random.default_rng(0).integers(0, 256, (130, 64, 64, 3), dtype=np.uint8)
    (tmp_path / "downloads").mkdir()
    path = tmp_path / "downloads" / "3dshapes.h5"
    with h5py.File(path, "w") as stored:
        stored["images"] = images
    file = RemoteFile("3dshapes.h5", "", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    monkeypatch.setitem(CATALOG, "shapes3d", Source((file,), readers.read_shapes3d, 130, "none", SIZES))
    monkeypatch.setattr(prepare, "SHARD", 50)
    monkeypatch.setattr(readers, "BATCH", 25)
    return tmp_path, images


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_images_and_factors_come_back(small):
    folder, images = small
    data = prepare_dataset("shapes3d", folder)
    assert data.factor_names == ("hue", "shape") and data.factor_sizes == (13, 10)
    assert np.array_equal(data.images[:], images) and np.array_equal(data.factors, SIZES.table())
    assert np.array_equal(data.images[np.array([[3, 129], [50, 49]])], images[np.array([[3, 129], [50, 49]])])
    assert files(folder) == ["downloads/3dshapes.h5", *(f"shapes3d/data-{i:05d}.arrow" for i in range(3)),
                             "shapes3d/dataset_info.json", "shapes3d/factors.json", "shapes3d/state.json"]  # fmt: skip


def test_the_datasets_library_opens_it(small):
    folder, images = small
    prepare_dataset("shapes3d", folder)
    opened = datasets.load_from_disk(str(folder / "shapes3d"))
    assert len(opened) == 130
    assert np.array_equal(np.reshape(opened[101]["image"], (64, 64, 3)), images[101]) and opened[101]["factors"] == [10, 1]


def test_nothing_is_done_twice(small):
    folder, _ = small
    prepare_dataset("shapes3d", folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    (folder / "downloads" / "3dshapes.h5").unlink()  # no longer needed
    prepare_dataset("shapes3d", folder)
    del before[folder / "downloads" / "3dshapes.h5"]
    assert len(before) > 3 and all(p.stat().st_mtime_ns == when for p, when in before.items())


def test_two_processes_prepare_it_once(small, monkeypatch):
    folder, images = small
    write, written = prepare._write_shard, []

    def slow(path, *rest):
        time.sleep(0.3)
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(prepare, "_write_shard", slow)
    with ThreadPoolExecutor(2) as pool:  # locks exclude threads as they do processes
        prepared = list(pool.map(lambda _: prepare_dataset("shapes3d", folder), range(2)))
    assert len(written) == len(set(written)) and all(np.array_equal(data.images[:], images) for data in prepared)


def test_an_interrupted_preparation_goes_on_after_its_last_whole_shard(small, monkeypatch):
    folder, images = small
    write, written = prepare._write_shard, []

    def dies_at_the_second(path, *rest):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(prepare, "_write_shard", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("shapes3d", folder)
    (partial,) = folder.glob("shapes3d.*.partial")
    assert files(partial) == ["data-00000.arrow"] and not (folder / "shapes3d").exists()
    first = (partial / "data-00000.arrow").stat().st_mtime_ns
    monkeypatch.setattr(prepare, "_write_shard", write)
    assert np.array_equal(prepare_dataset("shapes3d", folder).images[:], images)
    assert (folder / "shapes3d" / "data-00000.arrow").stat().st_mtime_ns == first


def test_attributes_of_the_files_own(tmp_path, monkeypatch):
    images = np.zeros((7, 64, 64, 3), np.uint8)
    values = np.arange(14).reshape(7, 2) % 2

    def read(_, count, start):
        yield images[start:], values[start:]

    monkeypatch.setitem(CATALOG, "celeba", Source((), read, 7, "none", Factors(("Bald", "Young"), (2, 2))))
    data = prepare_dataset("celeba", tmp_path)
    assert np.array_equal(data.factors, values) and data.factor_names == ("Bald", "Young") and data.factor_sizes == (2, 2)


def test_a_file_with_too_few_images_leaves_nothing(tmp_path, monkeypatch):
    def read(_, count, start):
        yield np.zeros((5, 64, 64, 3), np.uint8), None

    monkeypatch.setitem(CATALOG, "cars3d", Source((), read, 130, "none", SIZES))
    with pytest.raises(ValueError, match="expected 130 images, found 5"):
        prepare_dataset("cars3d", tmp_path)
    assert files(tmp_path) == [] and not list(tmp_path.glob("cars3d*"))


def test_a_folder_of_the_same_name_is_refused_before_anything_is_read(small, monkeypatch):
    folder, _ = small
    (folder / "shapes3d").mkdir()
    (folder / "shapes3d" / "mine.png").write_text("mine")
    monkeypatch.setattr(prepare, "find_or_fetch", None)
    with pytest.raises(ValueError, match="shapes3d is not a prepared data set: move it elsewhere or delete it"):
        prepare_dataset("shapes3d", folder)


class TestBadFilesOnTheCommandLine:
    def run(self, folder, capsys) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["data", "prepare", "--data-dir", str(folder), "shapes3d"])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and len(error.splitlines()) == 1
        assert files(folder) in ([], ["downloads/3dshapes.h5"])  # what was put there stays, nothing else is left
        return error

    def test_truncated(self, small, capsys):
        path = small[0] / "downloads" / "3dshapes.h5"
        path.write_bytes(path.read_bytes()[:1_000])
        assert "3dshapes.h5: expected 1," in (error := self.run(small[0], capsys)) and "bytes, found 1,000" in error

    def test_wrong_hash(self, small, capsys):
        path = small[0] / "downloads" / "3dshapes.h5"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert "expected sha256" in self.run(small[0], capsys)

    def test_no_file(self, small, capsys):
        (small[0] / "downloads" / "3dshapes.h5").unlink()
        assert "there is no such file" in self.run(small[0], capsys)


def test_what_is_not_prepared_or_damaged_says_what_to_do(small):
    folder, _ = small
    with pytest.raises(ValueError, match=r"shapes3d is not prepared in .*: run 'dyga data prepare shapes3d' first"):
        load_dataset("shapes3d", folder)
    prepare_dataset("shapes3d", folder)
    described = folder / "shapes3d" / "factors.json"
    text = described.read_text()
    for wrong in ("[]", "{}", '{"names": 3, "sizes": 4}'):
        described.write_text(wrong)
        with pytest.raises(ValueError, match=r"shapes3d: damaged .*; delete it and prepare it again"):
            load_dataset("shapes3d", folder)
    described.write_text(text)
    shard = folder / "shapes3d" / "data-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"shapes3d: damaged .*; delete it and prepare it again"):
        load_dataset("shapes3d", folder)


def test_what_was_prepared_from_other_files_is_neither_used_nor_continued(small, monkeypatch):
    folder, _ = small
    old = prepare_dataset("shapes3d", folder)
    assert old.identity == f"shapes3d, files {CATALOG['shapes3d'].digest}"
    newer = replace(CATALOG["shapes3d"].files[0], digest="0" * 64)
    monkeypatch.setitem(CATALOG, "shapes3d", replace(CATALOG["shapes3d"], files=(newer,)))
    assert CATALOG["shapes3d"].digest not in old.identity
    for opened in (load_dataset, prepare_dataset):
        with pytest.raises(
            ValueError, match=r"shapes3d was prepared from other files than the catalogue's: delete it and prepare"
        ):
            opened("shapes3d", folder)


def test_the_catalogue_is_consistent():
    assert tuple(DATASETS) == (*RENDERED, *CATALOG)
    for name, source in CATALOG.items():
        assert DATASETS[name] == (source.count, len(source.factors.names)) and len(source.factors) >= source.count
        assert source.licence and all(len(file.digest) in (32, 64) for file in source.files)


def test_factors_are_stored_as_bytes():
    assert all(max(source.factors.sizes) <= 256 for source in CATALOG.values())
