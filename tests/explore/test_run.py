import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import save_images
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from dyga import load_run
from dyga.__main__ import main
from dyga.config import make_config
from dyga.data import load_dataset
from dyga.explore.run import Unit, named_unit
from dyga.kept import digest
from dyga.study.evaluation import evaluate
from dyga.training.first_stage import train_first_stage
from dyga.training.loop import train


@pytest.fixture(scope="module")
def images(run):
    return run.data.images[np.array([5, 1_000, 300_000])]


def test_encode_and_decode_shapes(run, images):
    features = run.encode(images)
    assert features.shape == (3, 8, 32) and features.dtype == np.float32
    decoded = run.decode(features, steps=2)
    assert decoded.shape == (3, 64, 64, 3) and decoded.dtype == np.uint8
    assert np.array_equal(decoded, run.decode(features, steps=2))
    noisy = [run.decode(features, steps=2, seed=seed, temperature=1.0) for seed in (0, 1)]
    assert np.array_equal(decoded, run.decode(features, steps=2, seed=1)) and not np.array_equal(*noisy)
    assert run.encode(images[:0]).shape == (0, 8, 32)
    assert run.decode(features[:0]).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("steps", [61, 122])
def test_the_denoiser_is_called_once_a_sampling_step_at_falling_times(run, images, steps):
    times, denoiser = [], run.model.denoiser
    hook = denoiser.register_forward_pre_hook(lambda module, inputs: times.append(int(inputs[1][0])))
    run.decode(run.encode(images[:1]), steps)
    hook.remove()
    assert len(times) == steps and times == sorted(set(times), reverse=True) and times[0] == 999 and times[-1] >= 0


@pytest.mark.parametrize("steps", [0, -1, 1_001])
def test_a_wrong_number_of_sampling_steps_is_refused(run, images, steps):
    with pytest.raises(ValueError, match=f"^{steps} sampling steps: valid are 1 to 1,000$"):
        run.decode(run.encode(images[:1]), steps)


def test_encoding_does_not_depend_on_the_batch(run, images):
    assert np.allclose(run.encode(images)[1], run.encode(images[1:2])[0], atol=1e-5)


def test_codes_are_first_principal_components(run):
    rows = run.projection["rows"][:300]
    assert np.allclose(run.codes(run.data.images[rows]), run.projection["codes"][:300], atol=1e-3)
    codes = run.projection["codes"]
    assert abs(codes.mean(axis=0)).max() < 1e-2
    features = run.encode(run.data.images[run.projection["rows"]])
    for unit in [u.index for u in run.active_units[:3]]:
        expected = PCA(1).fit_transform(features[:, unit])[:, 0]
        assert abs(np.corrcoef(expected, codes[:, unit])[0, 1]) > 0.9999


@pytest.mark.parametrize(
    ("nmi", "name", "text"),
    [
        ([0.02, 0.71, 0.3], "object hue", "object hue .71 (unit 4)"),
        ([0.56, 0.1, 0.30], "scale + eyes open", "scale .56 + eyes open .30 (unit 4)"),
        ([0.12, 0.11, 0.11], "scale + object hue", "scale .12 + object hue .11 (unit 4)"),
        ([0.03, 0.03, 0.02], "scale", "scale .03 (unit 4)"),
        ([1.0, 0.5, 0.9], "scale + eyes open", "scale 1.00 + eyes open .90 (unit 4)"),
    ],
)
def test_a_unit_is_named_after_the_one_or_two_factors_that_it_follows(nmi, name, text):
    unit = named_unit(4, np.array(nmi), ("scale", "object_hue", "eyes_open"))
    assert (unit.name, str(unit)) == (name, text)
    assert (Unit(4).name, str(Unit(4))) == ("unit 4", "unit 4")


def test_each_factor_s_best_unit_comes_first(run):
    nmi, active = np.array(run.metrics["nmi"]), run.active
    best = list(dict.fromkeys(u for u in nmi.argmax(axis=0).tolist() if active[u]))
    assert [unit.index for unit in run.active_units][: len(best)] == best
    assert {unit.index for unit in run.active_units} == set(np.flatnonzero(active).tolist())
    group = run.following(Unit(best[0], (run.data.factor_names[0],)))
    assert set(group) == {best[0]} | {u for u in range(len(nmi)) if active[u] and nmi[u].argmax() == 0}


def test_traverse_holds_the_other_units(run, images):
    unit = run.active_units[0].index
    strip = run.traverse(images[0], unit=unit, count=5, steps=2)
    features = np.repeat(run.encode(images[:1]), 5, axis=0)
    features[:, unit] = run.traversal_grid[[0, 50, 100, 150, 200], unit]
    assert np.array_equal(strip, run.decode(features, steps=2)) and not np.array_equal(strip[0], strip[-1])


def test_a_unit_set_to_an_anchor(run, images):
    unit = next(unit.index for unit in run.active_units if len(run.anchors_along(unit.index)[0]))
    indices, means = run.anchors_along(unit)
    features = run.encode(images[:2])
    features[:, unit] = means[-1]
    assert np.array_equal(run.at_anchor(run.encode(images[:2]), unit, len(means) - 1), run.decode(features))
    assert indices[-1] == np.linalg.norm(run.traversal_grid[:, unit] - means[-1], axis=1).argmin()
    with pytest.raises(ValueError, match=rf"anchor {len(means)}: unit {unit} has {len(means)} anchors, numbered from 0"):
        run.at_anchor(features, unit, len(means))


def test_grid_indices_are_those_of_the_nearest_points(run, images):
    own = run.encode(images[:1])[0]
    found = run.grid_indices(own)
    for unit in range(run.config.units):
        distance = np.linalg.norm(run.traversal_grid[:, unit] - own[unit], axis=1)
        assert distance[found[unit]] == distance.min()


def test_interchange_of_all_units_is_the_target_and_of_none_the_source(run, images):
    source, target = images[0], images[1]
    own = [run.decode(run.encode(image[None]), steps=3)[0] for image in (source, target)]
    assert np.array_equal(run.swap(source, target, [], steps=3), own[0])
    assert np.array_equal(run.swap(source, target, range(8), steps=3), own[1])
    assert run.swap(images, images[::-1], [1], steps=2).shape == images.shape


def test_a_unit_is_as_good_as_its_index(run, images):
    unit = run.active_units[0]
    assert np.array_equal(run.swap(images[0], images[1], [unit]), run.swap(images[0], images[1], [unit.index]))
    assert np.array_equal(run.traverse(images[0], unit, 3), run.traverse(images[0], unit.index, 3))
    assert np.array_equal(run.anchors_along(unit)[0], run.anchors_along(unit.index)[0])


def test_attention_is_a_distribution_over_units(run, images):
    maps = run.attention(images, steps=2)
    assert maps.shape == (3, 8, 8, 8)
    assert np.allclose(maps.sum(axis=1), 1, atol=1e-4)
    assert run.model.denoiser.keep_attention(False)[0].map is None


def test_wrong_arguments(run, images):
    with pytest.raises(ValueError, match=r"images is float32 \(3, 64, 64, 3\): valid is uint8"):
        run.encode(images.astype(np.float32))
    with pytest.raises(ValueError, match=r"valid is uint8 \(n, 64, 64, 3\)"):
        run.encode(images[0])
    with pytest.raises(ValueError, match=r"finite numbers of shape \(n, 8, 32\)"):
        run.decode(np.zeros((2, 7, 32)))
    with pytest.raises(ValueError, match="finite numbers"):
        run.decode(np.full((1, 8, 32), np.nan))
    with pytest.raises(ValueError, match=r"units \[8\]: valid are 0 to 7"):
        run.traverse(images[0], 8)
    with pytest.raises(ValueError, match="cannot be opened as a run"):
        load_run("/no/such/run")


def test_a_run_without_evaluation_says_so(study, tmp_path):
    copy = tmp_path / "runs" / "full-seed0"
    shutil.copytree(study / "runs" / "rooms3d-smoke" / "full-seed0", copy)
    (copy / "metrics.json").unlink()
    (copy / "codes.safetensors").unlink()
    run = load_run(copy)
    with pytest.raises(ValueError, match=r"has no metrics\.json: run notebook 02_training"):
        _ = run.metrics
    with pytest.raises(ValueError, match="has no codes"):
        _ = run.projection
    assert run.decode(run.encode(run.data.images[:1]), steps=1).shape == (1, 64, 64, 3)  # its first stage came with it
    result = evaluate(run)
    (copy / "codes.safetensors").unlink()
    evaluate(load_run(copy))
    assert load_run(copy).projection["codes"].shape == (result["images"], 8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two folders of pictures, a study's run and first stage on each, pooled."""
    root = tmp_path_factory.mktemp("two")
    for name, first in (("a", 0), ("b", 240_000)):
        folder = save_images(root / name / "pictures", first + np.arange(20) * 10_000)
        config = replace(make_config("smoke", f"folder:{folder}", "encdiff"), steps=2, first_stage_steps=2)
        list(train(config, root / name / "before-seed0", root))
        train_first_stage(config, root / name / "first_stage", root)
        list(train(config, root / name / "after-seed0", root))
    return root


@pytest.fixture
def two(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "two")
    return tmp_path / "two"


@pytest.mark.parametrize("name", ["before-seed0", "after-seed0"])
def test_a_run_folder_that_was_copied_elsewhere_decodes(two, tmp_path, name):
    """Whether it was trained before its first stage or after."""
    expected = load_run(two / "a" / name, two)
    features = expected.encode(np.zeros((2, 64, 64, 3), np.uint8))
    shutil.move(two / "a" / name, two / "b" / "from a")  # beside the first stage of other pictures
    images = load_run(two / "b" / "from a").decode(features, steps=1)
    np.testing.assert_array_equal(images, expected.decode(features, steps=1))


def test_a_first_stage_that_is_not_the_runs_is_refused(two):
    features = np.zeros((1, 8, 32), np.float32)
    run, shared, other = two / "a" / "after-seed0", two / "a" / "first_stage", two / "b" / "first_stage"
    swapped = shutil.copy(other / "model.safetensors", run / "first_stage" / "model.safetensors")
    with pytest.raises(ValueError, match=r"is another first stage than the run's: its digest is [0-9a-f]{16}, not [0-9a-f]{16}"):
        load_run(run).decode(features, steps=1)
    shutil.copy(other / "config.json", run / "first_stage" / "config.json")
    with pytest.raises(ValueError, match=r"first_stage was made of other data \(data was '.*/b/pictures, .*, now '.*/a/pictures"):
        load_run(run).decode(features, steps=1)
    shutil.rmtree(run / "first_stage")
    assert load_run(run).decode(features, steps=1).shape == (1, 64, 64, 3)  # its study's
    (shared / "provenance.json").unlink()
    with pytest.raises(ValueError, match=r"provenance.json: missing or damaged: delete the folder and train it again"):
        load_run(run).decode(features, steps=1)
    shutil.rmtree(shared)
    with pytest.raises(ValueError, match=r"there is no such first stage: train it first \(dyga first-stage\)"):
        load_run(run).decode(features, steps=1)
    assert swapped


def test_a_run_whose_pictures_were_replaced_neither_shows_nor_measures_them(two):
    folder = two / "a" / "after-seed0"
    where = two / "a" / "pictures"
    config = json.loads((folder / "config.json").read_text())
    moved = config | {"dataset": f"folder:{where}", "data": load_dataset(f"folder:{where}", two).identity}
    (folder / "config.json").write_text(json.dumps(moved))
    assert len(load_run(folder, two).data.images) == 20
    evaluate(load_run(folder, two))
    Image.new("RGB", (64, 64)).save(where / "00.png")
    for use in (lambda run: run.data, evaluate):
        with pytest.raises(
            ValueError, match=r"after-seed0 was trained on folder:.*, now there is folder:.*: restore that, or train"
        ):
            use(load_run(folder, two))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(folder), "--data-dir", str(two)])
    assert stopped.value.code == 2


def test_a_papers_run_names_the_first_stage_whose_latents_it_was_trained_on(two, tmp_path):
    small = "steps=2, batch=4, first_stage_steps=1, feature_buffer=64, unet_channels=32,32, attention_levels=1, image_size=32"
    config = make_config("paper", f"folder:{two / 'a' / 'pictures'}", "full", changes=small)
    run, stage = tmp_path / "study" / "full-seed0", tmp_path / "study" / "first_stage"
    with pytest.raises(ValueError, match=r"there is no such first stage: train it first"):
        next(train(config, run, two))
    assert not run.exists()
    train_first_stage(config, stage, two)
    list(train(config, run, two))
    assert load_run(run).config.first_stage_digest == json.loads((stage / "provenance.json").read_text())["digest"]
    assert list(train(config, run, two)) == []
    # Trained again with another result, as on a GPU or with other losses.
    weights = load_file(stage / "model.safetensors")
    save_file({name: np.asarray(array * np.float32(1.01)) for name, array in weights.items()}, stage / "new")
    (stage / "new").replace(stage / "model.safetensors")
    made = json.loads((stage / "provenance.json").read_text())
    (stage / "provenance.json").unlink()
    (stage / "provenance.json").write_text(json.dumps(made | {"digest": digest((stage / "model.safetensors").read_bytes())}))
    with pytest.raises(ValueError, match=r"full-seed0 was made of other settings \(first_stage_digest was '"):
        next(train(config, run, two))
    assert load_run(run).decode(np.zeros((1, 20, 32), np.float32), steps=1).shape == (1, 32, 32, 3)


def test_metrics_file_has_the_tables_numbers(run):
    values = json.loads((run.folder / "metrics.json").read_text())
    for name in ("factor_vae_score", "dci_disentanglement", "dci_completeness", "dci_informativeness", "mig"):
        assert 0 <= values[name] <= 1
    assert np.shape(values["nmi"]) == np.shape(values["importance"]) == (8, 6)
    assert values["downstream"]["sizes"] == [100, 600]
    assert np.shape(values["downstream"]["accuracy"]) == (2, 6)
