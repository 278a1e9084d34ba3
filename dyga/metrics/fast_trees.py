"""LightGBM with scikit-learn's notion of importance, as the fast stand-in for gradient boosting."""

import numpy as np
from lightgbm import LGBMClassifier
from scipy.special import expit, softmax


def fast_classifier(n_jobs: int, seed: int) -> LGBMClassifier:
    """Depth, number of trees, learning rate and least leaf size are those of scikit-learn's default."""
    return LGBMClassifier(
        max_depth=3,
        num_leaves=8,
        min_child_samples=1,
        n_estimators=100,
        learning_rate=0.1,
        deterministic=True,
        force_row_wise=True,
        random_state=seed,
        n_jobs=n_jobs,
        verbose=-1,
    )


def impurity_importance(model: LGBMClassifier, codes: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How much each unit's splits reduce the squared residuals (units,) of the rows the model was fitted
    on.

    This is scikit-learn's definition. LightGBM's own gain divides by the Hessian, which vanishes as a
    factor is learned, so that late splits on noise weigh more: with it, disentanglement at 1,000 rows was
    off by up to 0.1, with this by up to 0.02.
    """
    values, label = np.unique(label, return_inverse=True)
    trees = [tree["tree_structure"] for tree in model.booster_.dump_model()["tree_info"]]
    leaves = np.asarray(model.predict(codes, pred_leaf=True)).reshape(len(codes), len(trees))
    share = np.bincount(label) / len(label)
    binary = len(values) == 2
    target = label[:, None] if binary else np.eye(len(values))[label]
    probability = np.tile(share[1:] if binary else share, (len(codes), 1))
    score = np.zeros_like(probability)  # LightGBM adds the starting score to the first trees
    importance = np.zeros(codes.shape[1])
    for at in range(0, len(trees), score.shape[1]):
        residual = target - probability
        for column in range(score.shape[1]):
            leaf = leaves[:, at + column]
            counts = np.bincount(leaf)
            value = np.zeros(len(counts))
            sums = np.bincount(leaf, residual[:, column])
            _add_splits(trees[at + column], sums, counts, value, importance)
            score[:, column] += value[leaf]
        probability = expit(score) if binary else softmax(score, axis=1)
    return importance


def _add_splits(node: dict, sums: np.ndarray, counts: np.ndarray, value: np.ndarray, importance: np.ndarray) -> tuple[float, int]:
    """Add each split's reduction to `importance` and set leaf values; return the node's sum and rows."""
    if "split_feature" not in node:
        leaf = node.get("leaf_index", 0)
        if leaf >= len(counts):  # no row ends here
            return 0.0, 0
        value[leaf] = node["leaf_value"]
        return sums[leaf], counts[leaf]
    left, left_rows = _add_splits(node["left_child"], sums, counts, value, importance)
    right, right_rows = _add_splits(node["right_child"], sums, counts, value, importance)
    if left_rows and right_rows:
        gap = left / left_rows - right / right_rows
        importance[node["split_feature"]] += gap**2 * left_rows * right_rows / (left_rows + right_rows)
    return left + right, left_rows + right_rows
