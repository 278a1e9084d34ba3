import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dyga.data import store
from dyga.data.store import data_folder, load_arrays, save_arrays

ARRAY = np.random.default_rng(0).integers(0, 60, size=(3, 40), dtype=np.uint16)


def test_arrays_come_back_as_they_were_saved(tmp_path):
    path = tmp_path / "new" / "folder" / "a.npz"
    save_arrays(path, "key", {"array": ARRAY, "other": ARRAY[0]})
    loaded = load_arrays(path, "key")
    assert list(loaded) == ["array", "other"] and loaded["array"].dtype == ARRAY.dtype
    np.testing.assert_array_equal(loaded["array"], ARRAY)
    assert load_arrays(path, "other key") is None
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


def test_no_file_cut_short_or_changed_in_any_byte_passes_for_another_array(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, "key", {"array": ARRAY})
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x41
        for content in (whole[:position], bytes(changed)):
            path.write_bytes(content)
            loaded = load_arrays(path, "key")
            assert loaded is None or np.array_equal(loaded["array"], ARRAY)  # a byte of no meaning may change
    assert load_arrays(tmp_path / "absent.npz", "key") is None
    assert load_arrays(tmp_path, "key") is None


def test_an_array_whose_header_makes_no_sense_counts_as_absent(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, "key", {"array": ARRAY})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for old, new in [(b"}", b" "), (b"(3, 40)", b"(3, 99)"), (b"descr", b"d\0scr")]:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content.replace(old, new, 1) if name == "array.npy" else content)
        assert load_arrays(path, "key") is None


def test_pickled_content_is_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, array=np.array([{}], dtype=object), key="key")
    assert load_arrays(path, "key") is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_arrays(path, "key", {"array": ARRAY})

    def full_disk(file, content):
        file.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    save_arrays(path, "key", {"array": ARRAY + 1})
    np.testing.assert_array_equal(load_arrays(path, "key")["array"], ARRAY)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("writable", [True, False])
def test_the_default_folder_is_the_repositorys_or_else_the_users_cache(tmp_path, monkeypatch, writable):
    monkeypatch.setattr(store, "checkout", lambda: tmp_path / "repository")
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "cache" / "dyga"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder() == Path.home() / ".cache" / "dyga"
    (tmp_path / "repository" / "data").mkdir(parents=True)
    beside = (tmp_path / "repository" / "data").resolve()
    assert data_folder() == (beside if writable else Path.home() / ".cache" / "dyga")
