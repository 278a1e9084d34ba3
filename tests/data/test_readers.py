"""The published formats, written small and read exactly."""

import io
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dyga.data import readers


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def gathered(batches) -> np.ndarray:
    return np.concatenate([images for images, _ in batches])


def tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return [path]


def mat(**arrays) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(readers, "BATCH", 10)


@pytest.mark.parametrize("start", [0, 10, 20])
def test_shapes3d_and_mpi3d_in_order_from_any_start(tmp_path, start):
    images = pictures(25)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as stored:
        stored["images"] = images
    np.savez_compressed(tmp_path / "m.npz", images=images)
    assert np.array_equal(gathered(readers.read_shapes3d([tmp_path / "3dshapes.h5"], 25, start)), images[start:])
    assert np.array_equal(gathered(readers.read_npz([tmp_path / "m.npz"], 25, start)), images[start:])


def test_dsprites_are_black_and_white(tmp_path):
    masks = np.random.default_rng(0).integers(0, 2, (30, 64, 64), dtype=np.uint8)
    with h5py.File(tmp_path / "d.hdf5", "w") as stored:
        stored["imgs"] = masks
    found = gathered(readers.read_dsprites([tmp_path / "d.hdf5"], 30, 10))
    assert found.shape == (20, 64, 64, 3) and np.array_equal(found[..., 1], masks[10:] * 255)


def test_cars3d_in_the_order_of_list_txt_the_object_fastest(tmp_path):
    first, second = np.zeros((128, 128, 3, 24, 4), np.uint8), np.full((128, 128, 3, 24, 4), 200, np.uint8)
    second[..., 5, 3] = 77
    random = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    first[..., 2, 1] = random
    members = {"data/cars/a.mat": mat(im=first), "data/cars/list.txt": b"b.mat\na.mat\n", "./data/cars/b.mat": mat(im=second)}
    members["data/other/../../../escape.mat"] = b"never written"
    images = gathered(readers.read_cars3d(tar(tmp_path / "c.tar.gz", members), 2 * 96, 0))
    assert images.shape == (192, 64, 64, 3)
    assert (images[0] == 200).all() and (images[1] == 0).all()
    assert (images[(3 * 24 + 5) * 2] == 77).all()
    assert [p.name for p in tmp_path.rglob("*")] == ["c.tar.gz"]
    expected = Image.fromarray(random).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(images[(1 * 24 + 2) * 2 + 1], np.asarray(expected))


def test_faces_are_cropped_resized_and_labelled(tmp_path):
    face = np.zeros((218, 178, 3), np.uint8)
    face[:20] = face[-20:] = 255  # outside the central square
    names = [f"{i + 1:06d}.jpg" for i in range(13)]
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for name in names:
            archive.writestr(f"img_align_celeba/{name}", jpeg(face))
    rows = [f"{name} " + " ".join(["1", "-1"] * 20) for name in names]
    (tmp_path / "a.txt").write_text("\n".join(["13", " ".join(f"A{i}" for i in range(40)), *rows]) + "\n")
    ((images, values),) = readers.read_celeba([tmp_path / "f.zip", tmp_path / "a.txt"], 13, 10)
    assert images.shape == (3, 64, 64, 3) and images.max() < 40
    assert values.tolist() == [[1, 0] * 20] * 3
