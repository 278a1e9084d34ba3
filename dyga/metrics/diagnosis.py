"""A diagnosis of codes in words: which units carry no factor, which follow several, and which factors several units share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyga.metrics._checks import checked, train_rows
from dyga.metrics.dci import DCI
from dyga.metrics.mig import nmi

CONSTANT = 1e-6  # units with a smaller share of the largest standard deviation are constant
MARGIN = 0.01  # a unit carries a factor if its NMI exceeds the chance level by more than this
LEAST_NMI = 0.1  # a unit follows a factor only from this NMI on
SHARE = 0.5  # and only if its NMI is at least this share of the best unit's
PERMUTATIONS = 5
MANY = 4  # of more values only the range is said
READABLE = 0.1  # a factor can be read if the accuracy exceeds the most common value's share by this, or by half of what is left
IMPORTANT = 0.1  # DCI importance from which a unit is named


@dataclass(frozen=True)
class CodeDiagnosis:
    """Result of `diagnose`: `sentences`, and what they are made of.

    `constant` and `dead` (units,) bool: units that do not vary, and units whose NMI with every factor is at chance level;
    constant units are dead. `follows` (units, factors) bool. `nmi` (units, factors) is the normalised mutual information.
    `chance` (factors,) is its chance level: the largest value of any unit after the rows of the codes are permuted.
    """

    sentences: tuple[str, ...]
    constant: np.ndarray
    dead: np.ndarray
    follows: np.ndarray
    nmi: np.ndarray
    chance: np.ndarray


def diagnose(
    codes: np.ndarray,
    factors: np.ndarray,
    factor_names: Sequence[str] = (),
    *,
    dci: DCI | None = None,
    num_train: int = 10_000,
    seed: int = 0,
) -> CodeDiagnosis:
    """What the units of codes (n, units) carry of factors (n, factors), in sentences.

    A unit carries a factor if their NMI, on `num_train` rows, exceeds the chance level by .01. A unit that carries none is dead.
    A unit follows a factor that it carries if the NMI is at least .1 and half of the best unit's. Factors are called by their
    `factor_names`, or by number. With the `dci` of the same codes, the sentences say which of the factors that no unit follows
    can be predicted from several units together. Raises ValueError for invalid input or fewer than num_train rows.
    """
    codes, labels = checked(codes, factors)
    names = [str(name) for name in factor_names] or [f"factor {f}" for f in range(labels.shape[1])]
    if len(names) != labels.shape[1]:
        raise ValueError(f"factor_names has {len(names)} names, but there are {labels.shape[1]} factors")
    rows = train_rows(labels, seed, num_train)
    codes, labels = codes[rows], labels[rows]
    rng = np.random.default_rng(seed)
    matrix = nmi(codes, labels, num_train=num_train).matrix
    permuted = [nmi(rng.permutation(codes), labels, num_train=num_train).matrix.max(axis=0) for _ in range(PERMUTATIONS)]
    chance = np.max(permuted, axis=0)
    spread = codes.std(axis=0)
    constant = (spread <= CONSTANT * spread.max()) | (codes == codes[:1]).all(axis=0)
    carries = (matrix > chance + MARGIN) & ~constant[:, None]
    follows = carries & (matrix >= np.maximum(LEAST_NMI, SHARE * matrix.max(axis=0)))
    sentences = [
        *_factor_sentences(matrix, follows, names),
        *_unfollowed(matrix, labels, follows, names, dci),
        *_unit_sentences(constant, ~carries.any(axis=1) & ~_read_by_trees(labels, follows, dci)),
    ]
    return CodeDiagnosis(tuple(sentences), constant, ~carries.any(axis=1), follows, matrix, chance)


def _factor_sentences(matrix: np.ndarray, follows: np.ndarray, names: Sequence[str]) -> list[str]:
    """Factors with a unit of their own, factors that units share, and units that follow several factors."""
    followers, followed = follows.sum(axis=0), follows.sum(axis=1)
    own = {f: follows[:, f].argmax() for f in np.flatnonzero(followers == 1) if followed[follows[:, f].argmax()] == 1}
    found = "; ".join(f"{names[f]} (unit {unit})" for f, unit in own.items())
    sentences = [f"{len(own)} of {len(names)} factors have a unit of their own{': ' * bool(own)}{found}"]
    for f in np.flatnonzero(followers > 1):
        units = np.flatnonzero(follows[:, f])
        sentences.append(f"{names[f]} is shared by units {_numbers(units)} (NMI {_values(matrix[units, f])})")
    for unit in np.flatnonzero(followed > 1):
        those = np.flatnonzero(follows[unit])
        sentences.append(f"unit {unit} follows {_listed([names[f] for f in those])} (NMI {_values(matrix[unit, those])})")
    return sentences


def _unfollowed(matrix: np.ndarray, labels: np.ndarray, follows: np.ndarray, names: Sequence[str], dci: DCI | None) -> list[str]:
    """Factors that no unit follows."""
    sentences = []
    for f in np.flatnonzero(~follows.any(axis=0)):
        text = f"no unit follows {names[f]} (best NMI {_values(matrix[:, f].max(keepdims=True))})"
        if dci is not None:
            common = np.bincount(labels[:, f]).max() / len(labels)
            accuracy = f"accuracy {dci.accuracy[f]:.2f}, most common value {common:.2f}"
            units = np.flatnonzero(dci.importance[:, f] >= IMPORTANT)
            if not _readable(dci.accuracy[f], common):
                text += f", and all units together predict it little better than chance ({accuracy})"
            elif len(units) == 1:
                text += f", but trees read it from {_units(units)}, in finer steps than the NMI's bins ({accuracy})"
            elif len(units):
                text += f", but it can be read from several together, above all {_units(units)} ({accuracy})"
            else:
                text += f", but it can be read from many together ({accuracy})"
        sentences.append(text)
    return sentences


def _readable(accuracy: float, common: float) -> bool:
    return accuracy - common >= min(READABLE, (1 - common) / 2)


def _read_by_trees(labels: np.ndarray, follows: np.ndarray, dci: DCI | None) -> np.ndarray:
    """(units,) bool: the units that are important for a factor that no unit follows, but that DCI's trees read."""
    if dci is None:
        return np.zeros(len(follows), bool)
    common = np.array([np.bincount(column).max() for column in labels.T]) / len(labels)
    read = [_readable(*pair) for pair in zip(dci.accuracy, common, strict=True)]
    return (dci.importance[:, read & ~follows.any(axis=0)] >= IMPORTANT).any(axis=1)


def _unit_sentences(constant: np.ndarray, dead: np.ndarray) -> list[str]:
    """Units that carry no factor, and those among them that are constant."""
    sentences = []
    if dead.any():
        sentences.append(f"{_units(np.flatnonzero(dead))} {'carries' if dead.sum() == 1 else 'carry'} no factor")
    if constant.any():
        sentences.append(f"{_units(np.flatnonzero(constant))} {'is' if constant.sum() == 1 else 'are'} constant")
    return sentences


def _units(units: np.ndarray) -> str:
    return f"unit{'s' * (len(units) > 1)} {_numbers(units)}"


def _numbers(numbers: np.ndarray) -> str:
    """Ascending numbers in words; three or more in a row as a range: '1, 3 and 5 to 9'."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    parts = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    return _listed(parts)


def _values(values: np.ndarray) -> str:
    if len(values) > MANY:
        return f"{values.min():.2f} to {values.max():.2f}"
    return _listed([f"{value:.2f}" for value in values])


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
