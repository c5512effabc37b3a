"""Fits the arrays that the runtime's `feature_distance` and `trained` scores read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.runtime.guard.packing import rounded
from edgedistill.runtime.guard.trained import STATISTICS, statistics

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[np.float32]]

_NUM_FOLDS = 5
_PENALTY = 1.0


@dataclass(frozen=True)
class Outputs:
    """What a model returned for some texts: logits [n, classes] and features [n, dim], float."""

    logits: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        two_axes = self.logits.ndim == self.features.ndim == 2
        if not two_axes or len(self.logits) != len(self.features):
            raise ValueError(f"logits {self.logits.shape} and features {self.features.shape}")

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, rows: np.ndarray) -> Outputs:
        """The rows given by index or by mask."""
        return Outputs(self.logits[rows], self.features[rows])


def shrunk_covariance(centred: np.ndarray) -> Floats:
    """Covariance of centred rows [n, dim], shrunk towards a multiple of the identity.

    The weight is the closed form of Ledoit & Wolf 2004 (J. Multivariate Analysis 88), which
    minimises the expected squared error and keeps the matrix invertible when n < dim.
    """
    x = np.asarray(centred, dtype=np.float64)
    num_rows, dim = x.shape
    covariance = x.T @ x / num_rows
    scale = np.trace(covariance) / dim
    distance = np.sum(covariance**2) / dim - scale**2
    squares = x**2
    noise = (np.sum(squares.T @ squares) / num_rows - np.sum(covariance**2)) / (dim * num_rows)
    weight = min(max(noise, 0.0), distance) / distance if distance > 0 else 1.0
    shrunk: Floats = (1 - weight) * covariance + weight * scale * np.eye(dim)
    return shrunk


def fit_feature_distance(
    features: np.ndarray, targets: np.ndarray, rank: int | None = None
) -> Arrays:
    """`whitening` and `whitened_means` of the runtime's `FeatureDistance`, rounded to eight bits.

    Rounded here, so that what is fitted and measured on top is what ships.

    Args:
        features: float [n, dim] of in-bounds rows; targets: int [n].
        rank: directions to keep (see `class_whitening`).

    Raises:
        ValueError: features that do not vary within the classes.
    """
    exact, means = class_whitening(features, targets, rank)
    whitening = rounded(exact)
    return {"whitening": whitening, "whitened_means": rounded(means @ whitening)}


def class_whitening(
    features: np.ndarray, targets: np.ndarray, rank: int | None = None
) -> tuple[Floats, Floats]:
    """Directions in which the classes have unit covariance, and the class means.

    Args:
        features: float [n, dim] of in-bounds rows; targets: int [n].
        rank: keep only that many directions, those along which the whitened class means spread
            most (linear discriminant analysis, Fisher 1936): fewer bytes and less time for the
            distance outside them. None: all.

    Returns:
        float64 [dim, rank] and [classes, dim].

    Raises:
        ValueError: features that do not vary within the classes.
    """
    x = np.asarray(features, dtype=np.float64)
    classes, index, num_rows = np.unique(targets, return_inverse=True, return_counts=True)
    means: Floats = np.zeros((len(classes), x.shape[1]))
    np.add.at(means, index, x)
    means /= num_rows[:, None]
    variances, directions = np.linalg.eigh(shrunk_covariance(x - means[index]))
    if not variances[-1] > 0:
        raise ValueError("the features do not vary within the classes")
    # Shrinkage keeps every variance positive but for rounding.
    whitening: Floats = directions / np.sqrt(np.maximum(variances, variances[-1] * 1e-10))
    if rank is not None and rank < x.shape[1]:
        spread = (means - means.mean(axis=0)) @ whitening
        whitening = whitening @ np.linalg.svd(spread, full_matrices=False)[2][:rank].T
    return whitening, means


def fit_trained(
    in_bounds: Outputs,
    targets: np.ndarray,
    out_of_bounds: Outputs,
    *,
    rank: int | None = None,
    seed: int = 0,
) -> Arrays:
    """Arrays of the runtime's `Trained`: a logistic model, out of bounds against in bounds.

    It sees the seven columns of `runtime.guard.trained.statistics`. Both groups weigh the same
    whatever their sizes. The feature distance of an in-bounds row comes from a fit without that
    row's fold: a row is nearer to a class mean that it helped to place, which no text in the
    field is.
    """
    arrays = fit_feature_distance(in_bounds.features, targets, rank)
    rows = [
        _held_out_statistics(in_bounds, targets, rank, seed),
        statistics(out_of_bounds.logits, out_of_bounds.features, arrays),
    ]
    columns = np.concatenate(rows)
    centre, scale = columns.mean(axis=0), columns.std(axis=0)
    scale[scale < 1e-12] = 1.0
    is_outside = np.repeat([False, True], [len(rows[0]), len(rows[1])])
    weights, bias = fit_logistic((columns - centre) / scale, is_outside)
    fitted = {"centre": centre, "scale": scale, "weights": weights, "bias": np.array([bias])}
    return arrays | {name: value.astype(np.float32) for name, value in fitted.items()}


def _held_out_statistics(
    outputs: Outputs, targets: np.ndarray, rank: int | None, seed: int
) -> Floats:
    folds = np.random.default_rng(seed).permutation(len(outputs)) % _NUM_FOLDS
    result = np.zeros((len(outputs), len(STATISTICS)))
    for fold in np.unique(folds):
        held_out = folds == fold
        arrays = fit_feature_distance(outputs.features[~held_out], targets[~held_out], rank)
        rows = outputs.take(held_out)
        result[held_out] = statistics(rows.logits, rows.features, arrays)
    return result


def fit_logistic(columns: np.ndarray, is_positive: np.ndarray) -> tuple[Floats, float]:
    """Weights [num_columns] and bias of a balanced, L2-penalised logistic regression.

    Minimises the weighted log loss plus half the squared weights, each group weighing half of
    all rows (as scikit-learn's `LogisticRegression(class_weight="balanced", C=1)`).
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    x, sign = np.asarray(columns, dtype=np.float64), np.where(is_positive, 1.0, -1.0)
    num_positive = int(np.sum(is_positive))
    if not 0 < num_positive < len(x):
        raise ValueError("both groups need at least one row")
    row_weight = np.where(
        is_positive, len(x) / (2 * num_positive), len(x) / (2 * (len(x) - num_positive))
    )

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margin = sign * (x @ parameters[:-1] + parameters[-1])
        value = row_weight @ np.logaddexp(0, -margin)
        slope = -row_weight * sign * expit(-margin)
        penalty = _PENALTY / 2 * parameters[:-1] @ parameters[:-1]
        gradient = np.append(slope @ x + _PENALTY * parameters[:-1], slope.sum())
        return float(value + penalty), gradient

    found = minimize(
        loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
    )
    return found.x[:-1], float(found.x[-1])
