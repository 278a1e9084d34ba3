"""The published formats, written small: read exactly, or refused in one line that names file, expected and found."""

import io
import tarfile
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dyga.data import readers


def pictures(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def gathered(batches) -> np.ndarray:
    return np.concatenate([images for images, _ in batches])


def h5(path, **arrays):
    with h5py.File(path, "w") as stored:
        for key, array in arrays.items():
            stored[key] = array
    return [path]


def npz(path, array, **options):
    np.savez_compressed(path, **({"images": array} | options))
    return [path]


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


class TestShapes3d:
    @pytest.mark.parametrize("start", [0, 700, 1_000, 1_250])
    def test_images_in_order_from_any_start(self, tmp_path, start):
        images = pictures(1_300)
        files = h5(tmp_path / "3dshapes.h5", images=images, labels=np.zeros((1_300, 6)))
        assert np.array_equal(gathered(readers.read_shapes3d(files, 1_300, start)), images[start:])

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"labels": np.zeros(3)}, r"3dshapes.h5: expected a key 'images', found the keys labels"),
            ({"images": pictures(4)}, r"expected images \(5, 64, 64, 3\) uint8, found \(4, 64, 64, 3\) uint8"),
            ({"images": pictures(5).astype(np.float32)}, r"found \(5, 64, 64, 3\) float32"),
        ],
    )
    def test_other_contents(self, tmp_path, arrays, message):
        with pytest.raises(ValueError, match=message):
            gathered(readers.read_shapes3d(h5(tmp_path / "3dshapes.h5", **arrays), 5, 0))

    def test_no_hdf5_at_all_or_cut_short(self, tmp_path):
        files = h5(tmp_path / "3dshapes.h5", images=pictures(50))
        content = files[0].read_bytes()
        for damaged in (b"nonsense", content[: len(content) // 2]):
            files[0].write_bytes(damaged)
            with pytest.raises(ValueError, match=r"3dshapes.h5: expected an HDF5 file, found none"):
                gathered(readers.read_shapes3d(files, 50, 0))


def test_dsprites_are_black_and_white(tmp_path):
    masks = np.random.default_rng(0).integers(0, 2, (30, 64, 64), dtype=np.uint8)
    found = gathered(readers.read_dsprites(h5(tmp_path / "d.hdf5", imgs=masks), 30, 10))
    assert found.shape == (20, 64, 64, 3) and np.array_equal(found[..., 1], masks[10:] * 255)


class TestMpi3d:
    @pytest.mark.parametrize("start", [0, 999, 1_000, 1_150])
    def test_images_in_order_from_any_start(self, tmp_path, start):
        images = pictures(1_200)
        assert np.array_equal(gathered(readers.read_npz(npz(tmp_path / "m.npz", images), 1_200, start)), images[start:])

    @pytest.mark.parametrize(
        ("array", "options", "message"),
        [
            (pictures(4), {}, r"m.npz: expected images of 61,440 bytes, found"),
            (pictures(5).reshape(5, 64, 3, 64), {}, r"expected images \(5, 64, 64, 3\) uint8, found \(5, 64, 3, 64\)"),
            (pictures(5).astype(np.int8), {}, r"uint8, found \(5, 64, 64, 3\) int8"),
            (np.zeros(1 << 26, np.uint8), {}, r"expected images of 61,440 bytes, found 67,108,992"),  # 64 MB in 64 kB
        ],
    )
    def test_other_contents(self, tmp_path, array, options, message):
        with pytest.raises(ValueError, match=message):
            gathered(readers.read_npz(npz(tmp_path / "m.npz", array, **options), 5, 0))

    def test_another_key(self, tmp_path):
        np.savez(tmp_path / "m.npz", pictures=pictures(5))
        with pytest.raises(ValueError, match=r"expected a key 'images', found the members pictures.npy"):
            gathered(readers.read_npz([tmp_path / "m.npz"], 5, 0))

    def test_pickled_objects_are_not_loaded(self, tmp_path):
        array = np.empty(61_440 // 8, object)
        array[:] = [b"x"] * len(array)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.savez(tmp_path / "m.npz", images=array)
        with pytest.raises(ValueError, match=r"m.npz: expected images"):
            gathered(readers.read_npz([tmp_path / "m.npz"], 5, 0))

    def test_cut_short_or_flipped(self, tmp_path):
        files = npz(tmp_path / "m.npz", pictures(40))
        content = bytearray(files[0].read_bytes())
        files[0].write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="expected a whole npz archive"):
            gathered(readers.read_npz(files, 40, 0))
        content[len(content) // 2] ^= 0xFF
        files[0].write_bytes(content)
        with pytest.raises(ValueError, match=r"m.npz: expected"):
            gathered(readers.read_npz(files, 40, 0))


class TestCars3d:
    def views(self, seed):
        return np.random.default_rng(seed).integers(0, 256, (128, 128, 3, 24, 4), dtype=np.uint8)

    def test_the_object_varies_fastest_and_list_txt_orders_them(self, tmp_path):
        first, second = np.zeros((128, 128, 3, 24, 4), np.uint8), np.full((128, 128, 3, 24, 4), 200, np.uint8)
        second[..., 5, 3] = 77
        members = {"data/cars/a.mat": mat(im=first), "data/cars/list.txt": b"b.mat\na.mat\n", "data/cars/b.mat": mat(im=second)}
        members["data/other/../../../escape.mat"] = b"never written"
        images = gathered(readers.read_cars3d(tar(tmp_path / "c.tar.gz", members), 2 * 96, 0))
        assert images.shape == (192, 64, 64, 3)
        assert (images[0] == 200).all() and (images[1] == 0).all()
        assert (images[(3 * 24 + 5) * 2] == 77).all()
        assert [p.name for p in tmp_path.rglob("*")] == ["c.tar.gz"]

    def test_resized_with_lanczos(self, tmp_path):
        views = self.views(0)
        files = tar(tmp_path / "c.tar.gz", {"data/cars/a.mat": mat(im=views), "data/cars/list.txt": b"a.mat"})
        expected = Image.fromarray(views[..., 2, 1]).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.array_equal(gathered(readers.read_cars3d(files, 96, 0))[1 * 24 + 2], np.asarray(expected))

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"data/cars/list.txt": b"a.mat"}, "expected data/cars/list.txt and 1 cars, found 0 cars, 1 of the listed missing"),
            (
                {"data/cars/a.mat": mat(im=np.zeros((2, 2)))},
                r"a.mat with im \(128, 128, 3, 24, 4\) uint8, found \(2, 2\) float64",
            ),
            ({"data/cars/a.mat": mat(other=np.zeros(2))}, "found no such key"),
            ({"data/cars/a.mat": b"nonsense"}, "expected data/cars/a.mat to be a MATLAB file"),
            (
                {"data/cars/a.mat": bytes(65 << 20)},
                "members of at most 67,108,864 bytes, found data/cars/a.mat of 68,157,440",
            ),
        ],
    )
    def test_other_contents(self, tmp_path, members, message):
        with pytest.raises(ValueError, match=message):
            gathered(readers.read_cars3d(tar(tmp_path / "c.tar.gz", members), 96, 0))

    def test_cut_short(self, tmp_path):
        files = tar(tmp_path / "c.tar.gz", {"data/cars/a.mat": mat(im=self.views(0))})
        files[0].write_bytes(files[0].read_bytes()[:5_000])
        with pytest.raises(ValueError, match=r"c.tar.gz: expected a whole tar archive"):
            gathered(readers.read_cars3d(files, 96, 0))


class TestCelebA:
    def files(self, folder, faces: list[bytes], rows: list[str] | None = None, names=None):
        names = names or [f"{i + 1:06d}.jpg" for i in range(len(faces))]
        with zipfile.ZipFile(folder / "f.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, face in zip(names, faces, strict=True):
                archive.writestr(f"img_align_celeba/{name}", face)
        rows = rows if rows is not None else [f"{name} " + " ".join(["1", "-1"] * 20) for name in names]
        (folder / "a.txt").write_text("\n".join([str(len(rows)), " ".join(f"A{i}" for i in range(40)), *rows]) + "\n")
        return [folder / "f.zip", folder / "a.txt"]

    def test_faces_are_cropped_resized_and_labelled(self, tmp_path):
        face = np.zeros((218, 178, 3), np.uint8)
        face[:20] = face[-20:] = 255  # outside the central square
        ((images, values),) = readers.read_celeba(self.files(tmp_path, [jpeg(face)] * 3), 3, 1)
        assert images.shape == (2, 64, 64, 3) and images.max() < 40
        assert values.tolist() == [[1, 0] * 20] * 2

    @pytest.mark.parametrize(
        ("faces", "rows", "message"),
        [
            ([b"nonsense"], None, "img_align_celeba/000001.jpg to be a small JPEG image"),
            ([bytes(2 << 20)], None, "000001.jpg of at most a megabyte, found 2,097,152 bytes"),
            ([jpeg(np.zeros((2_000, 1_500, 3), np.uint8))], None, "found 1500x2000 pixels"),
            ([b""], [], "a.txt: expected 1 rows of 40 attributes, found 0 rows"),
            ([b""], ["000001.jpg " + "2 " * 40], "a file name and 40 times 1 or -1"),
            ([b""], ["../../x.jpg " + "1 " * 40], "a file name and 40 times 1 or -1"),
            ([b""], ["000009.jpg " + "1 " * 40], "expected a member img_align_celeba/000009.jpg, found none"),
        ],
    )
    def test_other_contents(self, tmp_path, faces, rows, message):
        with pytest.raises(ValueError, match=message):
            list(readers.read_celeba(self.files(tmp_path, faces, rows), 1, 0))

    def test_no_zip(self, tmp_path):
        files = self.files(tmp_path, [jpeg(np.zeros((218, 178, 3), np.uint8))])
        files[0].write_bytes(files[0].read_bytes()[:-30])
        with pytest.raises(ValueError, match=r"f.zip: expected a whole zip archive"):
            list(readers.read_celeba(files, 1, 0))
