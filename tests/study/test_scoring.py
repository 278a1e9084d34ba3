"""`dyga score`: files in every form, what it says and writes, and one line for each wrong input."""

import re

import numpy as np
import pytest
import torch
from conftest import dyga
from safetensors.torch import save_file

from dyga.__main__ import main
from dyga.data import RENDERED, known_factors, load_dataset
from dyga.extensions.alignment import align_as_released
from dyga.study import score_command, scoring

ROWS = 300


def world(rows=ROWS):
    """Codes (rows, 4): two units that follow the factors (rows, 2), a noise unit, and a constant one."""
    rng = np.random.default_rng(0)
    factors = rng.integers([3, 5], size=(rows, 2))
    noise = rng.normal(size=(rows, 2))
    return np.column_stack([factors + 0.1 * noise, noise[:, 0] * rng.normal(size=rows), np.zeros(rows)]), factors


def as_features(codes):
    """Features (n, units, 3) whose first principal components are the codes, up to sign and place."""
    axes = np.random.default_rng(1).normal(size=(codes.shape[1], 3))
    return codes[:, :, None] * (axes / np.linalg.norm(axes, axis=1, keepdims=True)) + 2.0


def write(folder, codes, factors):
    """Files of codes and factors in every form."""
    np.save(folder / "codes.npy", codes)
    np.save(folder / "features.npy", as_features(codes).astype(np.float32))
    np.savez(folder / "codes.npz", codes=codes, other=codes[:2])
    np.savez(folder / "epoch=000100.npz", latents=as_features(codes), num_samples=len(codes))
    np.savetxt(folder / "codes.csv", codes, delimiter=",")
    np.savetxt(folder / "titled.csv", codes, delimiter=",", header='"z0",z1,z2,z3', comments="")
    save_file({"z": torch.from_numpy(codes).bfloat16()}, folder / "codes.safetensors")
    np.save(folder / "factors.npy", factors.astype(float))
    np.savez(folder / "factors.npz", factors=factors, factor_names=np.array(["hue", "size"]))
    np.savetxt(folder / "factors.csv", factors, fmt="%d", delimiter=",", header="hue,size", comments="")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("codes"), *world())


@pytest.fixture
def quick(monkeypatch):
    """Two metrics instead of all and two resamples, in this process."""
    evaluate = scoring.metrics.evaluate_with_intervals

    def few(*arguments, **options):
        return evaluate(*arguments, **options | {"metrics": ("dci", "mig"), "n_jobs": 1, "progress": False})

    monkeypatch.setattr(scoring.metrics, "evaluate_with_intervals", few)
    monkeypatch.setattr(scoring.metrics.table, "RESAMPLES", (2, 2))


def value(scored, metric, quantity="score"):
    return scored.table.set_index(["metric", "quantity"])["value"][metric, quantity]


def test_every_form_of_file_gives_the_same_scores(files, quick):
    expected = scoring.score_file(files / "codes.npy", files / "factors.npy")
    assert expected.factor_names == ("factor 0", "factor 1")
    for name in ("codes.npz", "codes.csv", "titled.csv", "codes.safetensors", "features.npy", "epoch=000100.npz"):
        scored = scoring.score_file(files / name, files / f"factors.{'csv' if 'csv' in name else 'npz'}")
        assert scored.factor_names == ("hue", "size")
        assert value(scored, "mig") == pytest.approx(value(expected, "mig"), abs=0.05), name
        assert scored.diagnosis[0] == "2 of 2 factors have a unit of their own: hue (unit 0); size (unit 1)"
        assert scored.diagnosis[1:] == ("units 2 and 3 carry no factor", "unit 3 is constant")
    assert "(300, 4, 3) are reduced to each unit's first principal component" in scored.text()


def test_booleans_and_small_integers_are_numbers(files, tmp_path, quick):
    codes = world()[0]
    wide = np.sign(codes - np.median(codes, axis=0))
    for name, values in {"bits": codes > 1, "bytes": (100 * wide).astype(np.int8), "wide": 100 * wide}.items():
        np.save(tmp_path / f"{name}.npy", values)
    found = {name: scoring.score_file(tmp_path / f"{name}.npy", files / "factors.npy") for name in ("bits", "bytes", "wide")}
    assert found["bytes"].table.equals(found["wide"].table) and found["bits"].table["value"].notna().all()


def test_sizes_follow_from_the_rows_and_are_said(files, quick):
    scored = scoring.score_file(files / "codes.npy", files / "factors.npy")
    assert "15,000 rows are asked for, 300 are there: 200 for training, 100 for tests." in scored.text()
    scored = scoring.score_file(files / "codes.npy", files / "factors.npy", num_train=100, num_test=50)
    assert "asked for" not in scored.text()


def test_units_that_the_factor_vae_score_drops_are_said(files, tmp_path, quick):
    np.save(tmp_path / "small.npy", 0.01 * world()[0])
    text = scoring.score_file(tmp_path / "small.npy", files / "factors.npy").text()
    assert "The FactorVAE score's protocol drops units with a standard deviation below 0.05: 3 here." in text
    assert "deviation" not in scoring.score_file(files / "codes.npy", files / "factors.npy").text()


def test_tad_is_of_the_factors_that_are_binary(files, tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(scoring.metrics, "evaluate_with_intervals", lambda *_, metrics, **__: chosen.append(metrics) or 1 / 0)
    _, factors = world()
    for name, values in (("some", np.column_stack([factors, factors > 1])), ("none", factors)):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(ZeroDivisionError):
            scoring.score_file(files / "codes.npy", tmp_path / f"{name}.npy")
    assert ["tad" in names for names in chosen] == [True, False]


def test_the_command_prints_and_writes_one_page(files, tmp_path):
    page = tmp_path / "new" / "scores.html"
    done = dyga("score", str(files / "codes.npy"), "--factors", str(files / "factors.csv"), "--report", str(page))
    assert done.returncode == 0, done.stderr
    for words in ("codes.npy: 300 rows, 4 units, 2 factors", "factor vae", "explicitness", "95% interval", "chance"):
        assert words in done.stdout
    assert re.search(r"mcc +pearson +0\.9\d\d \[0\.9\d\d, [01]\.\d{3}\] +0\.\d{3}", done.stdout)
    assert "tad" not in done.stdout
    assert "hue (unit 0); size (unit 1)" in done.stdout and "unit 3 is constant" in done.stdout
    text = page.read_text()
    assert "hue (unit 0); size (unit 1)" in text and "data:image/png;base64," in text and "informativeness" in text
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert [path.name for path in page.parent.iterdir()] == ["scores.html"]


def test_known_factors_are_those_of_the_data_sets():
    for name in set(RENDERED) - {"arm3d"}:  # arm3d takes long to render
        data = load_dataset(name)
        factors, names = known_factors(name)
        assert np.array_equal(factors, data.factors) and names == data.factor_names
    cars, names = known_factors("cars3d")
    assert cars.shape == (17_568, 3) and names == ("elevation", "azimuth", "object")
    assert cars[183 * 24 + 183 * 2 + 5].tolist() == [1, 2, 5]
    assert len(known_factors("mpi3d_toy")[0]) == 1_036_800 and len(known_factors("arm3d")[0]) == 259_200


def test_a_known_data_set_needs_no_images(tmp_path, quick):
    factors, _ = known_factors("cars3d")
    np.save(tmp_path / "codes.npy", factors[:, ::-1].astype(np.float32))
    scored = scoring.score_file(tmp_path / "codes.npy", dataset="cars3d", num_train=200, num_test=100)
    assert scored.diagnosis == ("3 of 3 factors have a unit of their own: elevation (unit 2); azimuth (unit 1); object (unit 0)",)


def gaussians(path, features, sizes=(2, 1, 1, 1), **changes):
    """Gaussians in the published form, at random rows of the normalised features."""
    low, high = features.min(axis=(0, 2)), features.max(axis=(0, 2))
    normalised = (features - high[:, None]) / (high - low)[:, None].clip(1e-9)
    means = np.concatenate([normalised[:size, unit] for unit, size in enumerate(sizes)])
    sigma = np.broadcast_to(0.01 * np.eye(features.shape[2]), (len(means), *[features.shape[2]] * 2))
    stored = {"means": means, "sigma": sigma, "pi": np.ones(len(means)) / 2, "K": np.array(sizes), **changes}
    np.savez(path, **{name: value for name, value in stored.items() if value is not None})
    return path


def test_mixing_weight_of_the_released_alignment(tmp_path, quick):
    codes, factors = world()
    features = as_features(codes) + 5
    write(tmp_path, codes, factors)
    np.savez(tmp_path / "epoch=1.npz", latents=features)
    path = gaussians(tmp_path / "gaussian-epoch=1.npz", features)
    arguments = (tmp_path / "epoch=1.npz", tmp_path / "factors.npy")
    # The nearest of the means, in the normalised features, and the released weight, by hand.
    stored, low, high = np.load(path), features.min(axis=(0, 2)), features.max(axis=(0, 2))
    normalised = (features - high[:, None]) / (high - low)[:, None].clip(1e-9)
    starts = np.cumsum([0, *stored["K"]])
    target = np.empty_like(features)
    for unit in range(4):
        means = stored["means"][starts[unit] : starts[unit + 1]]
        nearest = np.square(normalised[:, unit, None] - means).sum(-1).argmin(-1)
        target[:, unit] = means[nearest]
    weight = 0.1 * np.exp(-np.abs((features - target) / (features + 1e-6)).mean())
    text = scoring.score_file(*arguments, gaussians=path).text()
    assert f"mixing weight {weight:.4f} at strength 0.1. 0.0% of the features are exactly 0" in text and weight > 0.03
    anchors, *borders = scoring.released_anchors(path, features)
    assert anchors.counts.tolist() == [2, 1, 1, 1]
    released = align_as_released(anchors, torch.from_numpy(features), 0.1, *borders)[1]
    assert released.item() == pytest.approx(weight, abs=1e-5)
    # A ReLU's zeros make the weight vanish.
    np.savez(tmp_path / "epoch=2.npz", latents=np.maximum(features - 7, 0))
    path = gaussians(tmp_path / "gaussian-epoch=2.npz", np.maximum(features - 7, 0))
    text = scoring.score_file(tmp_path / "epoch=2.npz", arguments[1], gaussians=path).text()
    assert "mixing weight 0.0000" in text and "The paper's formula with the same Gaussians: mean weight 0.0" in text


def test_wrong_gaussians(tmp_path, files):
    features = as_features(world()[0])
    path, arguments = tmp_path / "g.npz", (files / "epoch=000100.npz", files / "factors.npy")
    for changes, message in {
        "no such key": ({"pi": None}, "no key pi; its keys are means, sigma, K"),
        "units": ({"K": np.array([2, 3])}, "K must be 4 integers of at least 1, one per unit; it is int64 (2,)"),
        "shape": ({"pi": np.ones(4)}, "means, sigma and pi must be (5, 3), (5, 3, 3) and (5,)"),
        "nan": ({"pi": np.full(5, np.nan)}, "has 5 NaN or infinite values"),
    }.values():
        gaussians(path, features, **changes)
        with pytest.raises(ValueError, match=re.escape(message)):
            scoring.score_file(*arguments, gaussians=path)
    with pytest.raises(ValueError, match=re.escape("--gaussians needs features (n, units, dim)")):
        scoring.score_file(files / "codes.npy", arguments[1], gaussians=path)


CODES, FACTORS = world()
WRONG_CODES = {
    "absent.npy": (None, "there is no such file"),
    "codes.txt": ("1 2", "unknown ending '.txt': valid are .npy, .npz, .csv, .safetensors"),
    "key.npz": ({"z": CODES}, "it has no key codes or latents; its keys are z"),
    "two.safetensors": ({"a": CODES, "b": CODES}, "it has no key codes or latents; its keys are a, b"),
    "damaged.npz": ("PK", "cannot be read"),
    "damaged.npy": ("x", "cannot be read"),
    "damaged.safetensors": ("x", "cannot be read"),
    "pickled.npy": (np.array([[None]]), "cannot be read: Object arrays cannot be loaded"),
    "nan.npy": (np.where(CODES == CODES[3, 1], np.nan, CODES), "has 1 NaN or infinite values"),
    "complex.npy": (CODES + 1j, "holds complex128 values: valid are real numbers"),
    "flat.npy": (CODES[:, 0], "has shape (300,): valid is (n, units) or (n, units, dim)"),
    "short.npy": (CODES[:299], "has 299 rows, but"),
    "few.npy": (CODES[:20], "has 20 rows, but"),
    "words.csv": ("a,b\n1,2\n1,x\n", "could not convert string 'x' to float64"),
    "ragged.csv": ("1,2\n1\n", "cannot be read: the number of columns changed from 2 to 1"),
    "empty.csv": ("", "cannot be read: it is empty"),
    "index.csv": (",0,1\n0,.5,.2\n", "its first column has no name, as an index: write it without one"),
    "numbered.csv": ("0,1,2,3\n.5,.2,.1,.4\n", "its first line is 0, 1, 2, ..., as a header: name the columns or delete"),
}
WRONG_FACTORS = {
    "key.npz": ({"labels": FACTORS}, "it has no key factors; its keys are labels"),
    "names.npz": ({"factors": FACTORS, "factor_names": np.array(["a"])}, "has 1 names for 2 factors"),
    "fractions.npy": (FACTORS + 0.5, "factor 'factor 0' is 2.5 in row 1: factors must be integers"),
    "constant.csv": ("a,b\n" + "1,2\n" * 300, "factor 'a' is constant: it needs two or more values"),
    "many.npy": (np.arange(600).reshape(300, 2), "factor 'factor 0' has 300 values in 300 rows: too many for classes"),
    "nan.csv": ("a,b\n" + "nan,2\n" * 300, "has 300 NaN or infinite values"),
    "long.npy": (np.vstack([FACTORS, FACTORS]), "codes.npy has 300 rows, but"),
    "text.npy": (FACTORS.astype(str), "holds <U21 values"),
    "cube.npy": (FACTORS[None], "has shape (1, 300, 2): valid is (n, factors)"),
}
WRONG_OPTIONS = {
    "neither": ([], "one of the arguments --factors --dataset is required"),
    "both": (["--factors", "f.npy", "--dataset", "cars3d"], "argument --dataset: not allowed with argument --factors"),
    "unknown": (["--dataset", "mnist"], "the order of 'mnist' does not define the factors: valid are rooms3d, arm3d, faces2d,"),
    "no grid": (["--dataset", "celeba"], "the order of 'celeba' does not define the factors"),
    "rows": (["--dataset", "cars3d"], "codes.npy has 300 rows, but cars3d has 17,568"),
    "estimator": (["--factors", "factors.npy", "--dci-estimator", "x"], "invalid choice: 'x'"),
    "train": (["--factors", "factors.npy", "--num-train", "x"], "--num-train 'x': valid is one number from 40 to"),
    "test": (["--factors", "factors.npy", "--num-test", "5"], "--num-test '5': valid is one number from 10 to"),
    "seed": (["--factors", "factors.npy", "--seed", "1,2"], "--seed '1,2': valid is one number"),
    "ending": (
        ["--factors", "factors.npy", "--report", "page.txt"],
        "--report page.txt: valid is the name of a file that ends in",
    ),
    "place": (["--factors", "factors.npy", "--report", "codes.npy/page.html"], "is not a folder that can be written to"),
    "folder": (["--factors", "factors.npy", "--report", "folder.html"], "it is not a file that can be written to"),
}


def put(path, content):
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".safetensors":
        save_file({name: torch.from_numpy(array).clone() for name, array in content.items()}, path)
    elif content is not None:
        np.save(path, content)


def refused(capsys, *arguments):
    """The one line of a refused command."""
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    return printed.err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["codes", "factors", "options"])
def test_wrong_input_is_one_line_and_nothing_is_written(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("codes.npy", CODES)
    np.save("factors.npy", FACTORS)
    (tmp_path / "folder.html").mkdir()
    wrong = {"codes": WRONG_CODES, "factors": WRONG_FACTORS, "options": WRONG_OPTIONS}[kind]
    for name, (content, message) in wrong.items():
        if kind == "options":
            arguments = ["codes.npy", *content]
        else:
            put(tmp_path / name, content)
            arguments = [name, "--factors", "factors.npy"] if kind == "codes" else ["codes.npy", "--factors", name]
            arguments += ["--report", "page.html"]
        before = sorted(tmp_path.rglob("*"))
        assert message in refused(capsys, *arguments), name
        assert sorted(tmp_path.rglob("*")) == before


def test_a_page_needs_nbconvert(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score_command, "find_spec", lambda name: None)
    line = refused(capsys, "codes.npy", "--dataset", "rooms3d", "--report", str(tmp_path / "page.html"))
    assert "--report needs nbconvert: install dyga with its extra 'notebooks'" in line


def test_too_few_rows(tmp_path, capsys):
    for name, array in (("codes", CODES), ("factors", FACTORS)):
        np.save(tmp_path / f"{name}.npy", array[:50])
    line = refused(capsys, str(tmp_path / "codes.npy"), "--factors", str(tmp_path / "factors.npy"))
    assert "codes.npy has 50 rows: too few, since 40 are needed for training and 10 for tests" in line
