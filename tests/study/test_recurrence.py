import numpy as np
import pytest

from dyga import load_run, metrics
from dyga.study.recurrence import in_words, mutual, recurrence


def test_a_turned_ring_recurs_although_no_code_correlates():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 2_000)
    ring, turned = (np.stack([np.cos(a), np.sin(a)], axis=-1)[:, None] for a in (angle, angle + np.pi / 2))
    noise = rng.normal(size=(2_000, 1, 2))
    models = [np.concatenate([ring, noise], axis=1), np.concatenate([noise[::-1], turned], axis=1)]
    found = metrics.udr(models, similarity=mutual)
    assert found.recurrence[0].tolist() == [1.0, 0.0] and found.match[0][0, 1] == 1
    assert metrics.udr([model[..., 0] for model in models]).recurrence[0].tolist() == [0.0, 0.0]
    coordinate = turned * [1.0, 0.0]  # one of its two coordinates is not the ring
    assert metrics.udr([ring, coordinate], similarity=mutual).recurrence[0].tolist() == [0.0]


def test_one_row_per_active_unit_and_per_variant(study):
    folder = study / "runs" / "rooms3d-smoke"
    run, again, other = (load_run(folder / name) for name in ("pruned-seed0", "pruned-seed0", "full-seed0"))
    units, variants = recurrence({("full", 0): other, ("pruned", 0): run, ("pruned", 1): again})
    assert variants["variant"].tolist() == ["pruned"] and len(units) == 2 * run.active.sum()
    assert set(units["recurs in"]) == {"1 of 1"} and units["mean similarity"].min() > 0.75
    assert units["mean correlation"].min() == pytest.approx(1.0)
    (sentence,) = in_words(variants)
    assert sentence.startswith("- *pruned*: 100% of the active units recur in every other seed (2 seeds, ")
    nothing = recurrence({("full", 0): other})
    assert nothing[0].empty and in_words(nothing[1]) == []
