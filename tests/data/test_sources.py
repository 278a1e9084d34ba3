import numpy as np
import pytest
from PIL import Image

from dyga.data import load_dataset


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """A wide image with red sides, a grey one in a subfolder, one with transparency, and a text file."""
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :, 2] = 200
    wide[:, :40] = wide[:, 80:] = [255, 0, 0]
    save(tmp_path / "b.png", wide)
    save(tmp_path / "a" / "grey.JPG", np.full((64, 64), 90, np.uint8), format="JPEG")
    save(tmp_path / "c.png", np.dstack([np.full((9, 9, 3), 30, np.uint8), np.full((9, 9), 255, np.uint8)]))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folders_images_come_in_order_of_paths_at_one_size(folder):
    data = load_dataset(f"folder:{folder}")
    assert data.factors is None and data.factor_names == () and data.factor_sizes == ()
    assert data.images.shape == (3, 64, 64, 3) and data.images.dtype == np.uint8
    images = data.images[:]
    assert np.abs(images[0].astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(images[1, :, 4:-4], np.broadcast_to([0, 0, 200], (64, 56, 3)))
    assert (images[2] == 30).all()
    np.testing.assert_array_equal(data.images[-1], images[2])


def test_an_image_stored_on_its_side_is_turned_upright(tmp_path):
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: the stored left side is at the top
    save(tmp_path / "turned.png", half, exif=exif)
    image = load_dataset(f"folder:{tmp_path}").images[0]
    assert (image[:32] == 255).all() and (image[32:] == 0).all()


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"folder: .*absent is not a folder; need one with images in it"):
        load_dataset(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match=r"holds no images; valid endings are \.bmp, .*\.webp$"):
        load_dataset(f"folder:{tmp_path}")


def test_a_broken_image_is_named_when_it_is_read(folder):
    (folder / "d.png").write_bytes((folder / "b.png").read_bytes()[:60])
    images = load_dataset(f"folder:{folder}").images
    assert images[:3].shape == (3, 64, 64, 3)
    with pytest.raises(ValueError, match=r"folder: .*d\.png cannot be read as an image"):
        images[3]
