import pickle
import re
import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest

from dyga.metrics import FrechetInceptionDistance, fid, frechet_distance, missing_inception


def images(n: int, seed: int = 0, size: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(n, size, size, 3), dtype=np.uint8)


def channel_means(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(1, 2))


def first_pixel(batch: np.ndarray) -> np.ndarray:
    return batch[:, 0, 0].astype(np.float64)


def spread(n: int, d: int, seed: int) -> np.ndarray:
    """Covariance (d, d) of n random points."""
    return np.cov(np.random.default_rng(seed).normal(size=(n, d)), rowvar=False).reshape(d, d)


class Lazy:
    """Images that are created when a slice is read."""

    def __init__(self, n: int, seed: int = 0):
        self.n, self.seed, self.largest = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> np.ndarray:
        chosen = images(self.n, self.seed)[rows]
        self.largest = max(self.largest, len(chosen))
        return chosen


@pytest.mark.parametrize("d", [1, 2, 5])
def test_commuting_covariances_in_closed_form(d):
    # If A = Q diag(a) Q' and B = Q diag(b) Q', the square root of AB is Q diag(sqrt(ab)) Q'. The trace term is then the sum of
    # (sqrt(a) - sqrt(b))^2 over the axes.
    rng = np.random.default_rng(d)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    a, b = rng.uniform(0.1, 4, size=(2, d))
    mean_a, mean_b = rng.normal(size=(2, d))
    exact = np.square(mean_a - mean_b).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(mean_a, axes * a @ axes.T, mean_b, axes * b @ axes.T) == pytest.approx(exact)


def test_covariances_that_do_not_commute_in_closed_form():
    # A 2x2 matrix with eigenvalues p, q >= 0 has (sqrt(p) + sqrt(q))^2 = trace + 2 sqrt(det).
    a, b = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    assert not np.allclose(a @ b, b @ a)
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    exact = 3**2 + 4**2 + np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance([3.0, 0.0], a, [0.0, 4.0], b) == pytest.approx(exact)


def test_covariances_of_low_rank_in_closed_form():
    # tr (AB)^1/2 is the sum of the singular values of X Y' where A = X'X and B = Y'Y.
    x, y = np.random.default_rng(0).normal(size=(2, 7, 40))
    exact = np.square(x).sum() + np.square(y).sum() - 2 * np.linalg.norm(x @ y.T, "nuc")
    assert frechet_distance(np.zeros(40), x.T @ x, np.zeros(40), y.T @ y) == pytest.approx(exact, rel=1e-5)


def test_frechet_distance_of_a_gaussian_to_itself_is_zero_and_not_negative():
    for seed in range(10):
        sigma = spread(6, 30, seed)  # rank 5
        assert 0 <= frechet_distance(np.ones(30), sigma, np.ones(30), sigma) < 1e-5


def test_frechet_distance_prints_nothing(capfd):
    frechet_distance([0.0], [[1.0]], [1.0], [[1.0]])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_a": [[0.0, 0.0]]}, "mean_a must have shape"),
        ({"mean_b": [0.0]}, r"mean_b must have shape \(2,\), got \(1,\)"),
        ({"mean_b": [0.0, np.nan]}, "mean_b has 1 NaN"),
        ({"covariance_a": [[1.0, 1.0], [0.0, 1.0]]}, "covariance_a must be symmetric"),
        ({"covariance_b": np.eye(3)}, r"covariance_b must be symmetric of shape \(2, 2\), got shape \(3, 3\)"),
        ({"covariance_b": [1.0, 2.0]}, "covariance_b must have shape"),
        ({"covariance_a": [[np.inf, 0.0], [0.0, 1.0]]}, "covariance_a has 1 NaN or infinite"),
    ],
)
def test_frechet_distance_refuses_invalid_input(change, message):
    valid = {"mean_a": [0.0, 0.0], "covariance_a": np.eye(2), "mean_b": [0.0, 0.0], "covariance_b": np.eye(2)}
    with pytest.raises(ValueError, match=message):
        frechet_distance(**(valid | change))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_statistics_are_those_of_all_features_at_once(batch_size):
    real, generated = images(50), images(33, seed=1)
    result = fid(real, generated, features=channel_means, batch_size=batch_size)
    a, b = channel_means(real), channel_means(generated)
    exact = frechet_distance(a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False))
    assert result == FrechetInceptionDistance(pytest.approx(exact), 50, 33)


def test_float64_preserves_a_small_variance_around_a_large_mean():
    def offset_pixel(batch: np.ndarray) -> np.ndarray:
        return (1e4 + first_pixel(batch)[:, :1] / 256).astype(np.float32)

    real, generated = images(500), images(500, seed=1)
    a, b = (offset_pixel(x).astype(np.float64)[:, 0] for x in (real, generated))
    exact = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert fid(real, generated, features=offset_pixel, batch_size=9).score == pytest.approx(exact, rel=1e-6)


def test_identical_sets_score_zero():
    assert fid(images(40), images(40), features=channel_means).score == pytest.approx(0, abs=1e-6)


def test_symmetric():
    real, generated = images(40), images(30, seed=1) // 2
    score = fid(real, generated, features=channel_means).score
    assert score > 100
    assert fid(generated, real, features=channel_means).score == pytest.approx(score)


def test_invariant_to_order():
    real, generated = images(40), images(30, seed=1) // 2
    score = fid(real, generated, features=channel_means, batch_size=8).score
    assert fid(real[::-1], generated[::-1], features=channel_means, batch_size=8).score == pytest.approx(score)


@pytest.mark.parametrize("shift", [1, 20])
def test_a_mean_shift_scores_its_square(shift):
    real = images(60) // 2
    generated = real + np.array([shift, 0, 0], np.uint8)
    assert fid(real, generated, features=first_pixel).score == pytest.approx(shift**2, rel=1e-6)


def test_lazy_images_are_read_in_batches():
    real, generated = Lazy(25), Lazy(11, seed=1)
    result = fid(real, generated, features=channel_means, batch_size=8)
    assert result == fid(images(25), images(11, seed=1), features=channel_means, batch_size=8)
    assert (real.largest, generated.largest) == (8, 8)


def test_the_two_sets_may_differ_in_size():
    assert fid(images(9, size=4), images(9, size=6), features=channel_means).score > 0


@pytest.mark.parametrize("name", ["real", "generated"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (images(1), "has 1 images: at least 2"),
        (images(0), "has 0 images: at least 2"),
        (images(4).astype(np.float32), r"must be uint8 \(n, height, width, 3\), but a batch of 4 is float32"),
        (images(4).transpose(0, 3, 1, 2), r"must be uint8 .* uint8 \(4, 3, 4, 4\)"),
        (images(4)[..., :1], "must be uint8"),
        (images(4)[0], "must be uint8"),
        (images(4)[:, :0], "must be uint8"),
    ],
)
def test_invalid_images(name, bad, message):
    sets = {"real": images(4), "generated": images(4), name: bad}
    with pytest.raises(ValueError, match=f"^{name} {message}"):
        fid(**sets, features=channel_means)


def test_slices_shorter_than_the_reported_length():
    class Short(Lazy):
        def __getitem__(self, rows: slice) -> np.ndarray:
            return super().__getitem__(rows)[:-1]

    with pytest.raises(ValueError, match="real must be uint8"):
        fid(Short(4), images(4), features=channel_means)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda batch: np.where(batch[:, 0, 0] > 250, np.nan, 1.0), "features of real has .* NaN"),
        (lambda batch: batch.mean(axis=(1, 2, 3)), "features of real must have shape"),
        (lambda batch: channel_means(batch)[1:], r"features of real must have shape \(8, 'd'\), got \(7, 3\)"),
        (lambda batch: np.ones((len(batch), len(batch))), r"features of real must have shape \(4, 8\), got \(4, 4\)"),
        (lambda batch: np.ones((len(batch), batch.shape[1])), "features has 4 columns for real but 6 for generated"),
    ],
)
def test_invalid_features(features, message):
    with pytest.raises(ValueError, match=message):
        fid(images(20), images(20, size=6), features=features, batch_size=8)


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_invalid_batch_size(batch_size):
    with pytest.raises(ValueError, match="batch_size must be an integer"):
        fid(images(4), images(4), features=channel_means, batch_size=batch_size)


@pytest.mark.parametrize("name", ["nowhere.pth", ""])
def test_weights_path_without_a_file(name, tmp_path):
    with pytest.raises(ValueError, match=rf"weights .*{name}: there is no such file"):
        fid(images(4), images(4), weights=tmp_path / name)


def test_weights_and_features_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="weights and features exclude each other"):
        fid(images(4), images(4), weights=tmp_path, features=channel_means)


class Payload:
    """Prints when unpickled without protection."""

    def __reduce__(self):
        return print, ("code in a weights file ran",)


@pytest.mark.parametrize("damage", ["noise", "empty", "cut", "foreign", "list", "code"])
def test_damaged_weights_are_named(damage, tmp_path, capfd):
    import torch

    path = tmp_path / "weights.pth"
    content = {"foreign": {"layer": torch.zeros(3)}, "list": [torch.zeros(3)], "code": Payload()}
    torch.save(content.get(damage, {"layer": torch.zeros(3_000)}), path)
    if damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(1_000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5_000])
    elif damage == "code":
        path.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ValueError, match=r"weights .*weights\.pth: damaged, or not torch-fidelity's Inception-v3"):
        fid(images(4), images(4), weights=path)
    assert "code in a weights file ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "error",
    [URLError("Name or service not known"), ConnectionResetError("gone")],
    ids=lambda error: type(error).__name__,
)
def test_no_network(error, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(RuntimeError, match=r"weights-inception-2015-12-05-6726825d\.pth .*weights=PATH") as raised:
        fid(images(4), images(4))
    assert str(error) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_of_other_content_is_refused(tmp_path, monkeypatch):
    import email.message
    import io

    reply = io.BytesIO(b"<html>please log in</html>")
    reply.info = email.message.Message
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *args, **kwargs: reply)
    with pytest.raises(RuntimeError, match=r"invalid hash value .*weights=PATH"):
        fid(images(4), images(4))


@pytest.fixture(scope="module")
def network():
    """torch-fidelity's Inception-v3, with random weights instead of the trained ones."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *args, **kwargs: {})
        random = FeatureExtractorInceptionV3("random", ["2048"])
    for module in random.modules():
        if isinstance(module, torch.nn.Conv2d):  # with torch's default scale the features would vanish
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return random


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_agrees_with_torch_fidelity(network, weights, capfd):
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    real, generated = images(5), images(4, seed=1, size=6) // 2
    result = fid(real[::-1], list(generated), weights=str(weights), batch_size=3)
    assert capfd.readouterr() == ("", "")
    rows = [network(torch.tensor(x).permute(0, 3, 1, 2))[0].double() for x in (real, generated)]
    assert rows[0].shape == (5, 2048)
    assert not rows[0].requires_grad
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, rows), verbose=False)[KEY_METRIC_FID]
    assert result.score == pytest.approx(theirs, rel=0.01)  # float32, TF32 on some devices
    assert (result.num_real, result.num_generated) == (5, 4)


def test_downloaded_weights_are_found_in_the_torch_cache(weights, tmp_path, monkeypatch):
    kept = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    kept.parent.mkdir(parents=True)
    kept.symlink_to(weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert missing_inception() == "" and fid(images(2), images(2)).score == pytest.approx(0, abs=1e-6)
    kept.unlink()
    assert re.fullmatch(rf"FID needs .*: get https://\S+/{kept.name} \(95 MB\) as {kept}", missing_inception())
    assert not kept.exists()


def test_importing_the_metrics_does_not_import_torch():
    code = "import sys, dyga.metrics; sys.exit(bool({'torch', 'torch_fidelity'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
