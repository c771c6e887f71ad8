"""Prototype classifiers written again, in one go from all training features: NumPy, float64, as the papers have them.

Each takes training features (N, D), their classes (N,) and test features (B, D), and returns the answered classes (B,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


def unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def class_means(x: Floats, y: Labels) -> tuple[Labels, Floats]:
    classes = np.unique(y)
    return classes, np.stack([x[y == c].mean(axis=0) for c in classes])


def nearest_cosine(x: Floats, y: Labels, asked: Floats) -> Labels:
    classes, means = class_means(x.astype(np.float64), y)
    return np.asarray(classes[(unit(asked.astype(np.float64)) @ unit(means).T).argmax(axis=1)])


def nearest_mean(x: Floats, y: Labels, asked: Floats) -> Labels:
    classes, means = class_means(x.astype(np.float64), y)
    asked = asked.astype(np.float64)
    return np.asarray(classes[(np.square(means).sum(axis=1) - 2 * asked @ means.T).argmin(axis=1)])


def discriminant(x: Floats, y: Labels, asked: Floats, shrinkage: float = 1e-4) -> Labels:
    """Linear discriminant analysis, the covariance from deviations from each sample's own class mean."""
    x = x.astype(np.float64)
    classes, means = class_means(x, y)
    deviations = x - means[np.searchsorted(classes, y)]
    return _linear(classes, means, deviations.T @ deviations / len(x), asked, shrinkage)


def streaming_discriminant(x: Floats, y: Labels, asked: Floats, shrinkage: float = 1e-4) -> Labels:
    """SLDA's recursion sample by sample in the order given, without base initialisation.

    Sigma <- (n Sigma + n / (n + 1) d d') / (n + 1) with d from the mean before the update: a weighted sum of d d'.
    """
    means: dict[int, Floats] = {}
    counts: dict[int, int] = {}
    steps = np.empty(x.shape)
    for n, (sample, label) in enumerate(zip(x.astype(np.float64), y.tolist(), strict=True)):
        mean, count = means.get(label, np.zeros(x.shape[1])), counts.get(label, 0)
        steps[n] = np.sqrt(n / (n + 1)) * (sample - mean)
        means[label], counts[label] = mean + (sample - mean) / (count + 1), count + 1
    classes = sorted(means)
    table = np.stack([means[c] for c in classes])
    return _linear(np.array(classes), table, steps.T @ steps / len(x), asked, shrinkage)


def _linear(classes: Labels, means: Floats, covariance: Floats, asked: Floats, shrinkage: float) -> Labels:
    precision = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * np.eye(len(covariance)))
    weights = precision @ means.T
    scores = asked.astype(np.float64) @ weights - 0.5 * (means.T * weights).sum(axis=0)
    return np.asarray(classes[scores.argmax(axis=1)])


def ridge(x: Floats, y: Labels, asked: Floats, projection: Floats, penalty: float) -> Labels:
    """Ridge regression to one-hot classes on random ReLU projections."""
    h, shown = (np.maximum(z.astype(np.float32) @ projection, 0).astype(np.float64) for z in (x, asked))
    classes = np.unique(y)
    weights = np.linalg.solve(h.T @ h + penalty * np.eye(h.shape[1]), h.T @ (y[:, None] == classes).astype(np.float64))
    return np.asarray(classes[(shown @ weights).argmax(axis=1)])


def mahalanobis(x: Floats, y: Labels, asked: Floats) -> Labels:
    """FeCAM as its scripts for ViT have it: the explicit quadratic form with the inverse of each class's covariance."""
    x, asked = unit(x.astype(np.float64)), unit(asked.astype(np.float64))
    classes, means = class_means(x, y)
    distances = []
    for label, mean in zip(classes, means, strict=True):
        covariance = np.cov(x[y == label].T)
        covariance += np.diagonal(covariance).mean() * np.eye(len(covariance))
        deviation = np.sqrt(np.diagonal(covariance))
        inverse = np.linalg.inv(covariance / np.outer(deviation, deviation))
        gap = asked - mean
        distances.append(((gap @ inverse) * gap).sum(axis=1))
    return np.asarray(classes[np.argmin(distances, axis=0)])
