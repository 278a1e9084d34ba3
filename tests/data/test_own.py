"""Own data with labels: factors.csv, npz files, and data sets of the Hugging Face library."""

import json
import pickle
import sys
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import save_images
from PIL import Image

from dyga import load_run
from dyga.config import absolute_dataset, check_images, existing_dataset, make_config, study_name
from dyga.data import load_dataset, own, sources
from dyga.data.labels import as_classes
from dyga.provenance import locked
from dyga.training.loop import train

RED, GREY = (255, 0, 0), (90, 90, 90)
TABLE = "file,shape,count,angle\na.png,round,10,0.5\nsub/b.png,flat,9,1.5\nc.png,round,9,2.5\n"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name, colour in {"a.png": RED, "sub/b.png": GREY, "c.png": (0, 0, 255)}.items():
        Image.new("RGB", (80, 70), colour).save(folder / name)
    (folder / "factors.csv").write_text(TABLE)
    return folder


@pytest.fixture
def load(tmp_path):
    """Opens own data; what an error leaves behind fails the test."""

    def load(name):
        try:
            return load_dataset(name, tmp_path / "data")
        except ValueError as error:
            assert not (tmp_path / "data").exists() and "\n" not in str(error)
            raise

    return load


def test_columns_of_a_table_become_classes(folder, load):
    data = load(f"folder:{folder}")
    assert data.factor_names == ("shape", "count", "angle") and data.factor_sizes == (2, 2, 3)
    assert data.factors.dtype == np.int64
    assert data.factors.tolist() == [[1, 1, 0], [1, 0, 2], [0, 0, 1]]  # a.png, c.png, sub/b.png; 9 before 10, flat before round
    assert data.images[:][:, 0, 0].tolist() == [[*RED], [0, 0, 255], [*GREY]]


def test_rows_in_any_order_spaces_and_a_byte_order_mark_do_not_matter(folder, load):
    expected = load(f"folder:{folder}")
    header, *rows = TABLE.splitlines()
    lines = [header, *reversed(rows)]
    (folder / "factors.csv").write_text("\ufeff" + "\r\n".join(line.replace(",", " , ") for line in lines) + "\r\n\r\n")
    again = load(f"folder:{folder}")
    assert again.factors.tolist() == expected.factors.tolist() and again.identity == expected.identity


def test_other_labels_are_another_identity_and_a_second_run_reads_nothing(folder, load, tmp_path, monkeypatch):
    first = load(f"folder:{folder}")
    assert len(list((tmp_path / "data").rglob("*.npy"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_image", lambda *_: pytest.fail("read again"))
        patch.setattr(own, "read_factors", lambda *_: pytest.fail("read again"))
        again = load(f"folder:{folder}")
    assert again.identity == first.identity and again.factors.tolist() == first.factors.tolist()
    (folder / "factors.csv").write_text(TABLE.replace("b.png,flat,9", "b.png,flat,10"))
    other = load(f"folder:{folder}")
    (folder / "factors.csv").unlink()
    unlabelled = load(f"folder:{folder}")
    assert len({data.identity for data in (first, other, unlabelled)}) == 3
    assert unlabelled.factors is None and len(list((tmp_path / "data").rglob("*.npy"))) == 1


def test_each_image_size_is_prepared_apart(folder, tmp_path):
    sizes = {size: load_dataset(f"folder:{folder}", tmp_path / "data", size) for size in (32, 64, 128)}
    assert {size: data.images[:].shape for size, data in sizes.items()} == {size: (3, size, size, 3) for size in sizes}
    assert len({data.identity for data in sizes.values()}) == 3
    assert [(data.images[0] == RED).all() for data in sizes.values()] == [True] * 3
    assert all(data.factors.tolist() == sizes[64].factors.tolist() for data in sizes.values())


def test_a_damaged_copy_of_the_labels_is_made_anew(folder, load, tmp_path):
    expected = load(f"folder:{folder}").factors.tolist()
    for damage in (b"", b"x" * 200):
        (path,) = (tmp_path / "data").rglob("*.factors.npy")
        path.write_bytes(damage)
        assert load(f"folder:{folder}").factors.tolist() == expected


def test_a_continuous_column_has_ten_classes_of_equal_count(tmp_path, load, capsys):
    values = np.random.default_rng(0).permutation(np.linspace(-1, 1, 100))
    np.savez(tmp_path / "x.npz", images=np.zeros((100, 8, 8), np.uint8), factors=values[:, None], factor_names=["turn"])
    data = load(f"npz:{tmp_path / 'x.npz'}")
    assert data.factor_names == ("turn (10 bins)",) and data.factor_sizes == (10,)
    assert data.factors[:, 0].tolist() == np.floor(values.argsort().argsort() / 10).tolist()
    note = f"npz: {tmp_path / 'x.npz'}: factor 'turn' is continuous: 10 bins of equal count are its classes\n"
    assert capsys.readouterr().out == note
    load(f"npz:{tmp_path / 'x.npz'}")
    assert capsys.readouterr().out == ""


def test_bins_keep_equal_values_together():
    few = np.arange(40) / 3
    assert as_classes(np.repeat(few, 5))[1] is False
    for values in (np.r_[np.zeros(950), np.arange(50) + 0.5], np.r_[np.ones(950), np.arange(50) / 100]):
        classes, binned = as_classes(values)
        assert binned and classes.min() == 0 and set(np.diff(np.unique(classes))) == {1}
        assert all(len(set(classes[values == value])) == 1 for value in values[:1])
        assert (np.diff(classes[np.argsort(values)]) >= 0).all()


CSV = {
    "no column file": ("name,shape\na.png,1\n", "no column 'file'; its columns are name, shape"),
    "semicolons": ("file;shape\na.png;1\n", "no column 'file'; its columns are file;shape"),
    "no factor column": ("file\na.png\nsub/b.png\nc.png\n", "no factor column beside 'file'"),
    "no such picture": (TABLE + "d.png,flat,9,1\n", "no such picture in the folder: d.png"),
    "no row": (TABLE[: TABLE.index("c.png")], "pictures without a row: c.png"),
    "two rows": (TABLE + "./a.png,flat,9,1\n", "pictures with two rows: a.png"),
    "constant": (TABLE.replace("10", "9"), "factor 'count' is constant: it needs two or more values"),
    "empty cell": (TABLE.replace("flat", ""), "line 3 has no value for shape"),
    "NaN": (TABLE.replace("1.5", "NaN"), "line 3 has no value for angle"),
    "infinite": (TABLE.replace("1.5", "inf"), "factor 'angle' has missing, NaN or infinite values"),
    "a short line": (TABLE.replace(",2.5", ""), "line 4 does not have the 4 cells of the first line"),
    "a column twice": (TABLE.replace("count", "shape"), "the column names 'shape' are empty or occur twice"),
    "a nameless column": (TABLE.replace("count", ""), "the column names '' are empty or occur twice"),
    "empty": ("", "is empty: it needs a column 'file' and one column per factor"),
    "an open quote": (TABLE + '"d.png', "cannot be read as CSV (unexpected end of data)"),
    "not UTF-8": (TABLE.encode().replace(b"flat", b"\xff"), "cannot be read as CSV (it is not UTF-8)"),
    "a folder": (None, "cannot be read as CSV (Is a directory)"),
}


@pytest.mark.parametrize("name", CSV)
def test_what_is_wrong_with_a_table_is_named_before_anything_is_kept(folder, load, name, monkeypatch):
    content, message = CSV[name]
    table = folder / "factors.csv"
    table.unlink()
    table.mkdir() if content is None else table.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(sources, "read_image", lambda *_: pytest.fail("read before the labels were checked"))
    with pytest.raises(ValueError) as error:
        load(f"folder:{folder}")
    assert str(table) in str(error.value) and message in str(error.value)


def test_one_picture_and_columns_of_names_are_no_factors(folder, load):
    for name in ("sub/b.png", "c.png"):
        (folder / name).unlink()
    (folder / "factors.csv").write_text(TABLE[: TABLE.index("sub")])
    with pytest.raises(ValueError, match=r"factors.csv: 1 picture; factors need two or more"):
        load(f"folder:{folder}")
    with pytest.raises(ValueError, match="has 100 values in 100 rows: too many for classes"):
        as_classes(np.arange(100))


# npz files

IMAGES = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)
FACTORS = np.array([[3, 0], [7, 1], [3, 1], [7, 0], [9, 0]])


def save(path, **arrays):
    np.savez(path, **({"images": IMAGES, "factors": FACTORS} | arrays))
    return f"npz:{path}"


def test_an_npz_file_of_finished_images_and_factors(tmp_path, load):
    data = load(save(tmp_path / "x.npz"))
    np.testing.assert_array_equal(data.images[:], IMAGES)
    assert data.factor_names == ("factor_0", "factor_1") and data.factor_sizes == (3, 2)
    assert data.factors[:, 0].tolist() == [0, 1, 0, 1, 2]
    assert data.identity.startswith(f"npz:{tmp_path}/x.npz, 5 images, digest ")
    moved = load(save(tmp_path / "y.npz", factor_names=["a", "b"], factors=FACTORS.astype(np.uint8)))
    assert moved.factor_names == ("a", "b") and moved.factors.tolist() == data.factors.tolist()


@pytest.mark.parametrize("shape", [(2_003, 9, 12), (3, 90, 70, 3), (2, 1, 200)])
def test_npz_images_of_other_sizes_and_grey_ones_are_prepared_as_files_are(tmp_path, load, shape):
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    np.savez_compressed(tmp_path / "x.npz", images=pixels)
    data = load(f"npz:{tmp_path / 'x.npz'}")
    assert data.factors is None and data.images.shape == (shape[0], 64, 64, 3)
    Image.fromarray(pixels[-1]).save(tmp_path / "last.png")
    np.testing.assert_array_equal(data.images[-1], sources.read_image(tmp_path / "last.png", "x"))


NPZ = {
    "no images": (lambda p: np.savez(p, pictures=IMAGES), "no array 'images'; its arrays are pictures"),
    "floats": (lambda p: save(p, images=IMAGES / 255), r"images are \(5, 64, 64, 3\) float64; valid is \(n, h, w\) or"),
    "four channels": (lambda p: save(p, images=IMAGES[..., [0, 0, 0, 0]]), r"images are \(5, 64, 64, 4\) uint8; valid is"),
    "channels first": (lambda p: save(p, images=IMAGES.transpose(0, 3, 1, 2).copy()), r"images are \(5, 3, 64, 64\) uint8"),
    "one image": (lambda p: save(p, images=IMAGES[0]), "5 images|64 images, but factors of 5"),
    "no images in it": (lambda p: save(p, images=IMAGES[:0]), r"images are \(0, 64, 64, 3\) uint8"),
    "Fortran order": (lambda p: save(p, images=np.asfortranarray(IMAGES)), "uint8 in Fortran order; valid is"),
    "objects": (lambda p: save(p, images=np.array([{}] * 5)), r"images are \(5,\) object"),
    "lengths": (lambda p: save(p, factors=FACTORS[:4]), "5 images, but factors of 4"),
    "flat factors": (lambda p: save(p, factors=FACTORS[:, 0]), r"factors are \(5,\) int64; valid is \(n, factors\)"),
    "object factors": (lambda p: save(p, factors=FACTORS.astype(object)), "Object arrays cannot be loaded"),
    "constant": (lambda p: save(p, factors=FACTORS * [1, 0]), "factor 'factor_1' is constant"),
    "NaN": (lambda p: save(p, factors=FACTORS * [1, np.nan]), "factor 'factor_1' has missing, NaN or infinite values"),
    "three names": (lambda p: save(p, factor_names=["a", "b", "c"]), "factor_names are .*: a, b, c; valid are 2 different"),
    "same names": (lambda p: save(p, factor_names=["a", "a"]), "factor_names are .*: a, a; valid are 2 different strings"),
    "names only": (lambda p: np.savez(p, images=IMAGES, factor_names=["a"]), "factor_names without factors"),
    "single": (lambda p: save(p, images=IMAGES[:1], factors=FACTORS[:1]), "1 image; factors need two or more"),
    "a single array": (lambda p: np.save(p.open("wb"), IMAGES), "File is not a zip file"),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps(IMAGES)), "File is not a zip file"),
    "empty": (lambda p: p.touch(), "File is not a zip file"),
    "cut": (lambda p: (save(p), p.write_bytes(p.read_bytes()[:30_000])), "File is not a zip file"),
    "a flipped bit": (lambda p: (save(p), _flip(p)), "Bad CRC-32 for file 'images.npy'"),
    "text inside": (lambda p: _zip(p, b"some text"), "magic string is not correct"),
    "too few bytes": (lambda p: _zip(p, _header((5, 64, 64, 3)) + b"\0" * 99), "fewer than 5 images: the file is damaged"),
    "absent": (lambda p: None, "there is no such file"),
}


def _flip(path):
    content = bytearray(path.read_bytes())
    content[30_000] ^= 1
    path.write_bytes(content)


def _zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)


def _header(shape) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("name", NPZ)
def test_what_is_wrong_with_an_npz_file_is_named_before_anything_is_kept(tmp_path, load, name):
    make, message = NPZ[name]
    make(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=f"^npz: {tmp_path / 'x.npz'}: .*({message})"):
        load(f"npz:{tmp_path / 'x.npz'}")


# data sets of the Hugging Face library


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    return pytest.importorskip("datasets")


def kinds(datasets, count=45):
    """A data set with every kind of column."""
    red = [Image.new("RGB", (20, 10), (5 * i, 0, 0)) for i in range(count)]
    columns = {
        "name": [f"{i}" for i in range(count)],
        "photo": red,
        "mask": red[::-1],
        "animal": [i % 3 for i in range(count)],
        "legs": [(2, 4)[i % 2] for i in range(count)],
        "wild": [i < 9 for i in range(count)],
        "weight": [i / 7 for i in range(count)],
        "id": list(range(count)),
        "width": [20] * count,
        "hole": [None if i == 3 else i % 2 for i in range(count)],
    }
    numbers = {"legs": "int32", "wild": "bool", "weight": "float32", "id": "int64", "width": "int64", "hole": "int8"}
    features = {name: datasets.Value(dtype) for name, dtype in ({"name": "string"} | numbers).items()}
    pictures = {"photo": datasets.Image(), "mask": datasets.Image()}
    animal = {"animal": datasets.ClassLabel(names=["cat", "cow", "dog"])}
    features = {name: (features | pictures | animal)[name] for name in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_a_saved_data_set_and_its_columns(datasets, tmp_path, load, capsys):
    stored = kinds(datasets)
    stored.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": stored.select([0]), "train": stored}).save_to_disk(str(tmp_path / "two"))
    capsys.readouterr()
    data = load(f"hf:{tmp_path / 'one'}")
    assert data.factor_names == ("animal", "legs", "wild", "weight (10 bins)") and data.factor_sizes == (3, 2, 2, 10)
    assert data.factors[:4].tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [2, 0, 1, 0], [0, 1, 1, 0]]
    assert data.images[:][:, 0, 0, 0].tolist() == [5 * i for i in range(45)]
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 4 and "factor 'weight' is continuous: 10 bins" in printed
    assert "'id' is left out: it has 45 values" in printed and "'width' is left out: it is constant" in printed
    assert "'hole' is left out: it has missing" in printed
    assert (load(f"hf:{tmp_path / 'two'}").factors == data.factors).all()
    assert data.identity.startswith(f"hf:{tmp_path / 'one'}, 45 images, digest ")
    config = make_config("smoke", f"hf:{tmp_path / 'one'}", changes="batch=46")
    with pytest.raises(ValueError, match=r"batch=46: hf:.*one has 45 images"):  # counted once they are opened
        next(train(config, tmp_path / "run", tmp_path / "data"))
    assert not (tmp_path / "run").exists()


def test_an_image_folder_of_classes(datasets, tmp_path, load, monkeypatch):
    for i, name in enumerate(("cat/0.png", "dog/1.png", "dog/2.jpg")):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (90 * i, 0, 0)).save(tmp_path / "pets" / name, quality=100)
    data = load(f"hf:{tmp_path / 'pets'}")
    assert data.factor_names == ("label",) and data.factors.tolist() == [[0], [1], [1]]
    assert data.images[:][:, 0, 0, 0].tolist() == pytest.approx([0, 90, 180], abs=2)
    assert {path.suffix for path in (tmp_path / "data").rglob("*.*")} == {".npy", ".json"}
    monkeypatch.setattr(own.HuggingFace, "_load", lambda *_: pytest.fail("read again"))
    assert load(f"hf:{tmp_path / 'pets'}").identity == data.identity
    (tmp_path / "pets" / "cat" / "0.png").write_bytes(b"no picture")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"hf: .*pets: image 0 cannot be read as an image \(of no known format\)"):
        load_dataset(f"hf:{tmp_path / 'pets'}", tmp_path / "data")


def test_what_is_wrong_with_a_data_set_of_the_library_is_named(datasets, tmp_path, load, monkeypatch):
    stored = kinds(datasets)

    cases = {
        "words": (stored.select_columns(["name", "legs"]), "no column of images; its columns are name, legs"),
        "hole": (
            stored.map(lambda row, i: row | {"photo": None if i == 7 else row["photo"]}, with_indices=True),
            "image 7 is missing",
        ),
    }
    for name, (broken, message) in cases.items():
        broken.save_to_disk(str(tmp_path / name))
        with pytest.raises(ValueError, match=f"hf: {tmp_path / name}:? {message}"):
            load(f"hf:{tmp_path / name}")
    (tmp_path / "none").mkdir()
    stored.select([]).to_parquet(str(tmp_path / "none" / "train.parquet"))
    with pytest.raises(ValueError, match=r"hf: .*none cannot be opened \("):
        load(f"hf:{tmp_path / 'none'}")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(RuntimeError, match="hf: needs the package datasets: install dyga with its extra 'data'"):
            load(f"hf:{tmp_path / 'words'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"hf: .*empty cannot be opened \(.*any data files"):
        load(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(ValueError, match=r"hf: .*absent: there is no such folder"):
        load(f"hf:{tmp_path / 'absent'}")

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ValueError, match=r"hf: owner/name cannot be opened \(Couldn't reach"):
        load("hf:owner/name")


def test_a_data_set_of_the_hub_is_kept_once_prepared(datasets, load, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda name, cache_dir: {"test": kinds(datasets)} if not cache_dir else None)
    first = load("hf:owner/name")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked again"))
    assert load("hf:owner/name").identity == first.identity
    assert first.identity.startswith("hf:owner/name, 45 images, digest ")


# names, settings, command line


def test_names_of_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    assert absolute_dataset("npz:x.npz") == f"npz:{tmp_path / 'x.npz'}"
    assert absolute_dataset("hf:pets") == f"hf:{tmp_path / 'pets'}"
    assert absolute_dataset("hf:owner/pets") == "hf:owner/pets"
    for name, valid in {
        "npz:": "npz:FILE",
        "hf:": "hf:NAME",
        "hf:a/b/c": "a folder, or a name on the hub as 'owner/name'",
    }.items():
        with pytest.raises(ValueError, match=f"data set '{name}': valid is {valid}"):
            make_config("smoke", name)
    assert existing_dataset("hf:pets") == f"hf:{tmp_path / 'pets'}" and existing_dataset("hf:owner/name") == "hf:owner/name"
    for name, kind in {"npz:no.npz": "file", "npz:pets": "file", "hf:./no": "folder", "folder:no": "folder"}.items():
        with pytest.raises(ValueError, match=f"data set {name}: there is no such {kind}"):
            existing_dataset(name)
    names = [study_name("quick", name) for name in ("hf:owner/pets", "hf:other/pets", "npz:pets", "folder:pets", "hf:pets")]
    assert len(set(names)) == 5 and [name.split("-")[0] for name in names] == ["hf", "hf", "npz", "folder", "hf"]
    check_images(make_config("smoke", save(tmp_path / "x.npz")))
    with pytest.raises(ValueError, match=r"batch=6: npz:.*x.npz has 5 images"):
        check_images(make_config("smoke", "npz:x.npz", changes="batch=6"))
    for unknown in ("npz:pets", "hf:owner/pets"):  # not counted
        check_images(make_config("smoke", unknown, changes="batch=6"))


@pytest.fixture
def labelled(tmp_path):
    """300 pictures of a square: its column, its rare colour, and its grey level."""
    folder, random, lines = tmp_path / "squares", np.random.default_rng(0), ["file,column,colour,level"]
    folder.mkdir()
    for i in range(300):
        column, level, colour = i % 4, random.uniform(0.3, 1), "red" if i == 123 else "white"
        image = np.zeros((64, 64, 3), np.uint8)
        image[20:44, 16 * column : 16 * column + 16] = np.array([255, 255 * (i != 123), 255 * (i != 123)]) * level
        Image.fromarray(image).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{column},{colour},{level}")
    (folder / "factors.csv").write_text("\n".join(lines))
    return folder


def test_a_small_labelled_folder_is_trained_and_measured(labelled, tmp_path, capsys):
    from dyga.__main__ import main
    from dyga.study.baselines import run_baselines
    from dyga.study.interventions import intervention_scores, train_factor_classifier
    from dyga.training.first_stage import train_first_stage

    small = "steps=4, batch=8, units=4, min_scalars=2, first_stage_steps=2, intervention_images=200, feature_buffer=64"
    where = ["--dataset", f"folder:{labelled}", "--profile", "smoke", "--set", small, "--data-dir", str(tmp_path)]
    main(["train", *where, "--variant", "full", "--folder", str(tmp_path / "study" / "full-seed0")])
    printed = capsys.readouterr().out
    assert "dci_disentanglement" in printed and "factor 'level' is continuous: 10 bins of equal count" in printed
    run = load_run(tmp_path / "study" / "full-seed0", tmp_path)
    found = run.metrics
    assert (found["images"], found["num_train"], found["num_test"]) == (300, 200, 100)
    assert found["factor_names"] == ["column", "colour", "level (10 bins)"] == list(run.data.factor_names)
    assert found["downstream"]["sizes"] == [100, 200] and np.shape(found["nmi"]) == (4, 3)
    config = make_config("smoke", f"folder:{labelled}", "full", changes=small)
    train_factor_classifier(config, tmp_path / "study" / "factor_classifier", tmp_path)
    train_first_stage(config, tmp_path / "study" / "first_stage", tmp_path)
    scores = intervention_scores(run)
    assert len(scores) == 9 and {record["count"] for record in scores[::3]} == {150}
    json.dumps(scores)
    measured = run_baselines(config, tmp_path / "study" / "baselines-seed0", tmp_path)
    assert {values["num_train"] for values in measured.values()} == {200}


def test_a_process_that_failed_before_does_not_disturb_this_one(folder, tmp_path, monkeypatch):
    """A process that failed with the same images deletes what it leaves empty, while this one waits for its lock."""

    @contextmanager
    def waited(parent, **options):
        with locked(parent, **options):
            for empty in parent.glob("folder-*"):
                empty.rmdir()
            yield

    monkeypatch.setattr(sources, "locked", waited)
    assert len(load_dataset(f"folder:{folder}", tmp_path).images) == 3


def test_one_picture_is_refused_before_training(tmp_path):
    config = make_config("smoke", f"folder:{save_images(tmp_path / 'one', [5])}")
    with pytest.raises(ValueError, match="has one image: at least 2 are needed"):
        check_images(config)


def test_labels_of_very_few_pictures_are_refused_before_training(folder, tmp_path, capsys):
    from dyga.__main__ import main

    with pytest.raises(ValueError, match="3 images with labels; the metrics need at least 20"):
        next(train(make_config("smoke", f"folder:{folder}"), tmp_path / "run", tmp_path))
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "--dataset", f"folder:{folder}", "--profile", "smoke", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and "3 images with labels; the metrics need at least 20" in capsys.readouterr().err
    assert not (tmp_path / "out" / "runs").exists()
