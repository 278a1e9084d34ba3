import numpy as np
import pytest

from dyga.explore.cards import explained, sampled_scalars, unit_cards


def test_a_card_shows_extreme_codes_the_traversal_and_the_change_between_ends(run):
    images, units = run.data.images[np.array([5, 300_000])], run.active_units[:2]
    cards = unit_cards(run, units, images)
    assert [card.title.removesuffix(", two scalars") for card in cards] == [str(unit) for unit in units]
    codes = run.projection["codes"][:, units[1].index]
    lowest, highest = run.codes(cards[1].lowest)[:, units[1].index], run.codes(cards[1].highest)[:, units[1].index]
    assert lowest == pytest.approx(np.sort(codes)[:4], abs=1e-3) and highest == pytest.approx(np.sort(codes)[-4:], abs=1e-3)
    traversal = run.traverse(images[0], units[1].index, count=7).astype(int)
    assert cards[1].traversal.astype(int) == pytest.approx(traversal, abs=1)  # decoded in another batch, so rounded differently
    assert cards[1].change.shape == images.shape[1:3]
    scalars = sampled_scalars(run)[:, units[1].index]
    if (np.ptp(scalars, axis=0) > 0).sum() == 1:  # the ends are the first and the last point of the traversal
        ends = [run.traverse(image, units[1].index, count=2).astype(float) for image in images]
        assert cards[1].change == pytest.approx(np.mean([np.abs(low - high).mean(axis=2) for low, high in ends], axis=0), abs=1)
    assert cards[1].note.startswith("similar: ") and f"unit {units[1].index} " not in cards[1].note


def ring(angle, *, turn=0.0):
    return np.stack([np.cos(angle + turn), np.sin(angle + turn)], axis=-1)[:, None]


def test_what_units_of_one_and_two_scalars_explain_of_each_other():
    rng = np.random.default_rng(0)
    angle, other = rng.uniform(0, 2 * np.pi, (2, 4_000))
    one_scalar = np.stack([angle**3, np.zeros_like(angle)], axis=-1)[:, None]
    both = np.concatenate([ring(angle), ring(angle, turn=2.0), one_scalar, ring(other)], axis=1)
    shares = explained(both, both)
    assert shares[0, 1] > 0.9 and shares[1, 0] > 0.9 and shares[3].tolist()[:3] == pytest.approx([0, 0, 0], abs=0.02)
    assert shares[2, 0] > 0.95  # the angle predicts both coordinates
    line = np.stack([np.cos(angle), np.zeros_like(angle)], axis=-1)[:, None]
    assert explained(line, ring(angle))[0, 0] == pytest.approx(0.5, abs=0.05)  # one coordinate predicts one of two
    assert explained(ring(angle[:60]), ring(angle[:60], turn=1.0)).shape == (1, 1)  # few images
