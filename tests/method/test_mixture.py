import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from dyga.method import GaussianAnchors
from dyga.method.coreset import coreset
from dyga.method.mixture import Mixture, Rows, e_step, expectation_maximisation, linear_terms, log_joint, m_step
from dyga.method.selection import HeldOut, filter_small, initialise, split_widest


def clusters(units: int, n: int, dim: int, count: int, *, seed: int, spread: float = 5.0) -> torch.Tensor:
    """(n, units, dim): `count` round clusters of unit variance per unit."""
    generator = torch.Generator().manual_seed(seed)
    centres = spread * torch.randn(units, count, dim, generator=generator, dtype=torch.float64)
    label = torch.randint(count, (units, n), generator=generator)
    noise = torch.randn(units, n, dim, generator=generator, dtype=torch.float64)
    return (centres[torch.arange(units)[:, None], label] + noise).transpose(0, 1).contiguous()


def started(points: torch.Tensor, start: int, dims: int, seed: int = 0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    return initialise(points, start, dims, points.shape[-1], generator)


def covariances(mixture: Mixture) -> torch.Tensor:
    """(U, K, D, D): what the subspace, its variances and the noise add up to."""
    used = torch.arange(mixture.axes.shape[-1]) < mixture.intrinsic_dims[..., None]
    excess = (mixture.variances - mixture.noise[..., None]) * used
    round_part = mixture.noise[..., None, None] * torch.eye(mixture.means.shape[-1], dtype=torch.float64)
    return (mixture.axes * excess[..., None, :]) @ mixture.axes.mT + round_part


def fitted(dims: int, *, units: int = 2, dim: int = 5, start: int = 3, seed: int = 0) -> tuple[Rows, Mixture]:
    points = clusters(units, 300, dim, start, seed=seed, spread=2.0).transpose(0, 1)
    rows = Rows.of(points)
    return rows, expectation_maximisation(rows, started(points, start, dims), 15)[0]


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_log_densities_equal_scipys_of_the_same_covariance(dims):
    rows, mixture = fitted(dims)
    ours = log_joint(rows.linear, mixture)
    for unit in range(2):
        for anchor in range(3):
            density = multivariate_normal(mixture.means[unit, anchor], covariances(mixture)[unit, anchor])
            expected = math.log(mixture.weights[unit, anchor]) + density.logpdf(rows.points[unit])
            np.testing.assert_allclose(ours[unit, :, anchor], expected, rtol=1e-8, atol=1e-8)


def test_em_with_the_full_dimension_equals_scikit_learns_full_covariance():
    units, dim, start, steps = 3, 4, 3, 25
    points = clusters(units, 400, dim, start, seed=1, spread=1.5).transpose(0, 1)
    rows, first = Rows.of(points), started(points, start, dim)
    ours, likelihood = expectation_maximisation(rows, first, steps, tolerance=-1.0, scree=0.0, floor=1e-12)
    for unit in range(units):
        theirs = GaussianMixture(
            start,
            covariance_type="full",
            tol=0.0,
            reg_covar=0.0,
            max_iter=steps,
            weights_init=first.weights[unit].numpy(),
            means_init=first.means[unit].numpy(),
            precisions_init=torch.linalg.inv(covariances(first)[unit]).numpy(),
        )
        with pytest.warns(UserWarning):  # no convergence is asked for
            theirs.fit(points[unit].numpy())
        np.testing.assert_allclose(ours.weights[unit], theirs.weights_, atol=1e-5)
        np.testing.assert_allclose(ours.means[unit], theirs.means_, atol=1e-5)
        np.testing.assert_allclose(covariances(ours)[unit], theirs.covariances_, atol=1e-5)
        assert float(likelihood[unit]) == pytest.approx(theirs.score(points[unit].numpy()), abs=1e-5)


@pytest.mark.parametrize("n", [256, 250])
def test_moments_are_the_weighted_ones(n):
    points = clusters(2, n, 3, 4, seed=6, spread=20.0).transpose(0, 1)
    points = torch.stack([unit[unit[:, 0].argsort()] for unit in points])
    rows, mixture = Rows.of(points), started(points, 4, 2)
    responsibilities, _ = e_step(rows.linear, mixture)
    total, means, covariance = rows.moments(responsibilities)
    for unit in range(2):
        for anchor in range(4):
            weights = responsibilities[unit, :, anchor].numpy()
            assert total[unit, anchor].item() == pytest.approx(weights.sum())
            np.testing.assert_allclose(means[unit, anchor], np.average(points[unit], axis=0, weights=weights))
            expected = np.cov(points[unit].numpy().T, aweights=weights, bias=True)
            np.testing.assert_allclose(covariance[unit, anchor], expected, rtol=1e-8, atol=1e-8)


def test_the_subspace_of_one_gaussian_is_its_leading_eigenvectors():
    generator = torch.Generator().manual_seed(3)
    scale = torch.tensor([4.0, 3.0, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    points = scale * torch.randn(1, 2000, 6, generator=generator, dtype=torch.float64)
    rows, mixture = Rows.of(points), started(points, 1, 2)
    for _ in range(10):
        mixture = m_step(rows, torch.ones(1, 2000, 1, dtype=torch.float64), mixture, scree=0.2, floor=1e-9)
    values, vectors = np.linalg.eigh(np.cov(points[0].numpy().T, bias=True))
    assert mixture.intrinsic_dims.item() == 2
    np.testing.assert_allclose(mixture.variances[0, 0], values[::-1][:2], rtol=1e-9)
    np.testing.assert_allclose(mixture.noise[0, 0], values[:4].mean(), rtol=1e-9)
    overlap = np.abs(vectors[:, ::-1][:, :2].T @ mixture.axes[0, 0].numpy())
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-6)


@pytest.mark.parametrize(("second", "dims"), [(3.0, 2), (0.5, 1)])
def test_scree_test_finds_the_intrinsic_dimension(second, dims):
    generator = torch.Generator().manual_seed(4)
    scale = torch.tensor([4.0, second, 0.5, 0.5, 0.5], dtype=torch.float64)
    points = scale * torch.randn(1, 2000, 5, generator=generator, dtype=torch.float64)
    mixture, _ = expectation_maximisation(Rows.of(points), started(points, 1, 2), 10, tolerance=0.0)
    assert mixture.intrinsic_dims.item() == dims


def test_parameter_count_is_that_of_hddc():
    slots = torch.ones(1, 31, dtype=torch.float64)
    mixture = Mixture(
        weights=slots / 31,
        means=torch.zeros(1, 31, 32, dtype=torch.float64),
        axes=torch.zeros(1, 31, 32, 2, dtype=torch.float64),
        variances=torch.ones(1, 31, 2, dtype=torch.float64),
        noise=slots,
        intrinsic_dims=torch.ones(1, 31, dtype=torch.long),
        mask=torch.ones(1, 31, dtype=torch.bool),
        ambient=32,
    )
    assert mixture.parameter_counts().sum().item() + 30 == 2045
    terms = linear_terms(torch.randn(1, 50, 32, dtype=torch.float64))
    likelihood = e_step(terms, mixture)[1].mean().item()
    # 50 rows stand for 100.
    assert HeldOut(terms, 100).criterion(mixture).item() == pytest.approx(2045 * math.log(100) - 2 * 100 * likelihood)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    dims=st.integers(1, 3),
    start=st.integers(1, 6),
    n=st.integers(10, 120),
    steps=st.integers(0, 12),
)
def test_likelihood_never_ends_below_its_start(seed, dims, start, n, steps):
    points = clusters(2, n, 4, 3, seed=seed, spread=3.0).transpose(0, 1)
    rows, first = Rows.of(points), started(points, start, dims, seed)
    last, likelihood = expectation_maximisation(rows, first, steps)
    at_start = e_step(rows.linear, first)[1].mean(-1)
    at_end = e_step(rows.linear, last)[1].mean(-1)
    assert (likelihood >= at_start - 1e-12).all()
    torch.testing.assert_close(likelihood, at_end, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(last.weights.sum(1), torch.ones(2, dtype=torch.float64))


def test_units_do_not_influence_each_other():
    points = clusters(4, 200, 3, 3, seed=5).transpose(0, 1)
    first = started(points, 4, 2)
    together, _ = expectation_maximisation(Rows.of(points), first, 40, tolerance=1e-6)
    for unit in range(4):
        index = torch.tensor([unit])
        alone, _ = expectation_maximisation(Rows.of(points[index]), first.take(index), 40, tolerance=1e-6)
        torch.testing.assert_close(alone.means, together.means[index], rtol=1e-7, atol=1e-7)


def test_split_keeps_mean_and_covariance_and_takes_the_widest_first():
    _, mixture = fitted(2, start=3)
    halves, unit, parent, child = split_widest(mixture.resized(4), torch.zeros_like(mixture.resized(4).mask))
    widest = (mixture.weights * mixture.variances[..., 0]).argmax(1)
    assert parent.tolist() == widest.tolist() and child.tolist() == [3, 3] and unit.tolist() == [0, 1]
    both = covariances(halves)
    for u, p, c in zip(unit, parent, child, strict=True):
        mean = (halves.means[u, p] + halves.means[u, c]) / 2
        offset = (halves.means[u, p] - halves.means[u, c])[:, None] / 2
        torch.testing.assert_close(mean, mixture.means[u, p])
        torch.testing.assert_close(halves.weights[u, p] + halves.weights[u, c], mixture.weights[u, p])
        pooled = (both[u, p] + both[u, c]) / 2 + offset @ offset.T
        torch.testing.assert_close(pooled, covariances(mixture)[u, p])


def test_split_leaves_refused_anchors_alone():
    _, mixture = fitted(2)
    _, unit, _, _ = split_widest(mixture.resized(8), torch.ones(2, 8, dtype=torch.bool))
    assert len(unit) == 0


def test_filter_drops_small_anchors_but_never_the_last():
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(1, 5, 2, generator=generator, dtype=torch.float64) + 100
    points = torch.cat([torch.randn(1, 95, 2, generator=generator, dtype=torch.float64), few], dim=1)
    rows = Rows.of(points)
    mixture, _ = expectation_maximisation(rows, started(points, 2, 1), 20)
    assert mixture.mask.sum() == 2
    kept = filter_small(rows, mixture, 10)
    assert kept.mask.sum() == 1
    assert kept.weights.sum().item() == pytest.approx(1.0)
    assert kept.means[kept.mask].norm() < 1
    assert filter_small(rows, mixture, 1000).mask.sum() == 1
    assert filter_small(rows, mixture, 5).mask.sum() == 2


def test_kmeans_plus_plus_gives_distinct_points_only():
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    points = corners.repeat(20, 1)[None]
    mixture = started(points, 6, 1)
    assert mixture.mask.sum() == 3
    found = {tuple(mean) for mean in mixture.means[mixture.mask].tolist()}
    assert found == {tuple(corner) for corner in corners.tolist()}


def test_coreset_takes_the_middle_row_of_bins_of_equal_count():
    scalars = torch.tensor([[5.0], [3.0], [1.0], [0.0], [4.0], [2.0]])
    features = scalars[..., None] * torch.tensor([1.0, -2.0])
    points, others = coreset(features, scalars, 3)
    assert others[0, :, 0].tolist() == [0.0, 2.0, 4.0]
    assert points.shape == (1, 3, 2) and points.dtype == torch.float64
    assert points[0, :, 0].tolist() == [1.0, 3.0, 5.0]
    assert coreset(features, None, 3)[0][0, :, 0].sort().values.tolist() in ([1.0, 3.0, 5.0], [0.0, 2.0, 4.0])
    assert coreset(features, scalars, 100)[0][0, :, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("count", [1, 4, 10])
@pytest.mark.parametrize("bins", [512, 2048])
def test_number_of_well_separated_clusters_is_found(count, bins):
    # Ten units are ten draws of the clusters.
    features = clusters(10, 6000, 16, count, seed=count)
    result = GaussianAnchors(10, 16).select(features, bins=bins).filtered
    assert result.mask.sum(1).tolist() == [count] * 10


def test_stages_add_anchors_and_raise_the_likelihood():
    features = clusters(3, 2000, 8, 12, seed=2)
    stages = GaussianAnchors(3, 8, 16, start=4).select(features, bins=512)
    points = features.transpose(0, 1)
    likelihoods = [
        log_joint(linear_terms(points), stage).logsumexp(-1).mean().item()
        for stage in (stages.initialised, stages.fitted, stages.split)
    ]
    assert likelihoods == sorted(likelihoods)
    assert (stages.initialised.mask.sum(1) == 4).all()
    assert (stages.split.mask.sum(1) > 4).all()
