"""What can be said of a unit without labels: a card of pictures, and how well units predict each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from dyga.explore.run import Run, Unit
from dyga.extensions.pruning import NUM_BINS, explained_variance
from dyga.method.diffusion import to_tensor

EXTREMES, ALONG = 4, 7  # images at each end of the codes, and along the traversal
SAMPLE = 2_000  # images from which the dependence of units is estimated
LEAST = 0.05  # share of variance below which a unit does not count as predicted


class Card(NamedTuple):
    """A unit's `title`; the images with its `lowest` and `highest` codes, and its `traversal` (n, H, W, 3) uint8; the mean
    absolute `change` of a pixel between the two ends of the range (H, W), in grey levels; a `note` on similar units."""

    title: str
    lowest: np.ndarray
    highest: np.ndarray
    traversal: np.ndarray
    change: np.ndarray
    note: str


def unit_cards(run: Run, units: Sequence[Unit], images: np.ndarray) -> list[Card]:
    """A card per unit. The traversal is that of the first of `images` (n, H, W, 3), the change is a mean over all of them.

    The ends of the range are its first point and the point whose features are farthest from it: the traversal of a unit with two
    scalars goes once round, so that its last point is near the first. Similar units are the two active units that explain the
    largest shares of this unit's variance, 5% or more; the note also has the absolute rank correlation of the codes.
    """
    features, grid, saved = run.encode(images), run.traversal_grid, run.projection
    scalars = sampled_scalars(run)
    shares, correlations = explained(scalars, scalars), pd.DataFrame(saved["codes"]).corr("spearman").abs().to_numpy()
    cards = []
    for unit in units:
        own = grid[:, unit.index]
        moved = np.repeat(features, 2, axis=0)
        moved[::2, unit.index], moved[1::2, unit.index] = own[0], own[np.linalg.norm(own - own[0], axis=1).argmax()]
        decoded = run.decode(np.concatenate([run.traversal_features(features[0], unit.index, ALONG), moved]))
        ends = decoded[ALONG:].astype(float)
        order = np.argsort(saved["codes"][:, unit.index], kind="stable")
        lowest, highest = (run.data.images[saved["rows"][places]] for places in (order[:EXTREMES], order[-EXTREMES:]))
        change = np.abs(ends[::2] - ends[1::2]).mean(axis=(0, 3))
        others = [other for other in np.argsort(-shares[:, unit.index]) if run.active[other] and other != unit.index][:2]
        said = [
            f"unit {other} ({shares[other, unit.index]:.0%}, {correlations[other, unit.index]:.2f})".replace(" 0.", " .")
            for other in others
            if shares[other, unit.index] >= LEAST
        ]
        title = str(unit) + (", two scalars" if np.ptp(scalars[:, unit.index], axis=0).astype(bool).sum() > 1 else "")
        cards.append(Card(title, lowest, highest, decoded[:ALONG], change, f"similar: {', '.join(said) or 'none'}"))
    return cards


@torch.no_grad()
def sampled_scalars(run: Run) -> np.ndarray:
    """The scalars (n, units, scalars) of at most 2,000 evaluated images, evenly spaced. Pruned scalars are constant."""
    rows = run.projection["rows"]
    rows = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int)]
    batches = (to_tensor(run.data.images[rows[i : i + 250]]).to(run.device) for i in range(0, len(rows), 250))
    return torch.cat([run.model.scalars(batch).cpu() for batch in batches]).unflatten(1, (run.config.units, -1)).numpy()


def explained(by: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Scalars (n, units, scalars) of two models, or of one model twice: the share of the variance of each unit of `of` that each
    unit of `by` explains, (units of `by`, units of `of`), a mean over the scalars that vary (`explained_variance`)."""
    first, second = torch.from_numpy(by).float(), torch.from_numpy(of).float()
    bins = min(NUM_BINS, max(int((len(by) / 10) ** 0.5), 1) ** 2)  # a square, and ten images or more per bin
    shares = explained_variance(first, second.flatten(1), bins).unflatten(0, of.shape[1:])
    varying = torch.from_numpy(np.ptp(of, axis=0) > 0)
    return ((shares * varying[..., None]).sum(dim=1) / varying.sum(dim=1)[:, None].clamp(min=1)).T.numpy()
