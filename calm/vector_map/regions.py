"""Regions of a map with their typical words, and the density of its chunks.

Shapes: n chunks of the map, G cells along a side of the density's grid.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .positions import VectorMap

LEAST_MEMBERS, LEAST_NEIGHBOURS = 12, 4
"""A region has at least 12 chunks. HDBSCAN measures density by the distance to the fourth nearest chunk."""
LEAST_COVERAGE = 0.15
"""The weighted share of a region's chunks that its first term must occur in; regions without such a term have no
label."""
SECOND_COVERAGE = 0.25
"""The same for the second term of a label."""

GRID = 48
BANDWIDTH = 1.4
"""Standard deviation of the density's Gaussian kernel, in cells."""
MARGIN = 0.1
"""Space around the chunks, as a share of their extent."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Region:
    """A cluster of chunks, where it lies in each layout, and the terms that are typical of it."""

    label: str
    weight: float
    """Order of importance: the tf-idf of the first term times the square root of the number of chunks."""
    plane: list[float]
    """[2]"""
    space: list[float]
    """[3]"""
    principal: list[float]
    """[3]"""


@dataclass(frozen=True)
class Density:
    """Kernel density of the chunks in the first two dimensions of a layout."""

    x: list[float]
    """[2], centres of the first and the last column."""
    y: list[float]
    """[2], centres of the first and the last row."""
    values: list[list[int]]
    """[G, G], a row for each y. The square root of the density, from 0 to 100, so that sparse parts show, too."""


def regions(vector_map: VectorMap) -> list[Region]:
    """The labelled regions of a map, the most important first.

    Regions are the leaf clusters of HDBSCAN in the plane. The result depends on the map alone.
    """
    from sklearn.cluster import HDBSCAN

    clustering = HDBSCAN(
        min_cluster_size=LEAST_MEMBERS, min_samples=LEAST_NEIGHBOURS, cluster_selection_method="leaf", copy=True
    )
    cluster = clustering.fit(vector_map.plane).labels_
    weights = np.sqrt(np.array(vector_map.counts, float))
    principal = vector_map.project(vector_map.vectors, 3)
    found = []
    for label, score, members, holders in _labels(vector_map.texts, weights, cluster):
        positions = [_centre(layout, members, holders) for layout in (vector_map.plane, vector_map.space, principal)]
        found.append(Region(label, round(score * len(members) ** 0.5, 3), *positions))
    return sorted(found, key=lambda region: -region.weight)


def _centre(layout: np.ndarray, members: np.ndarray, holders: np.ndarray) -> list[float]:
    """The position [d] of the chunk with the first term that is nearest to the median of the region's chunks. The
    median itself may lie outside a bent cluster."""
    nearest = np.linalg.norm(layout[holders] - np.median(layout[members], 0), axis=1).argmin()
    return np.round(layout[holders[nearest]].astype(float), 3).tolist()


def _labels(
    texts: Sequence[str], weights: np.ndarray, cluster: np.ndarray
) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
    """Label, tf-idf of its first term, members, and members with the first term, of each cluster with a typical term.

    tf is the weighted share of the cluster's chunks that hold a term; idf is the logarithm of the number of clusters
    over the sum of the term's shares in all clusters, plus the logarithm of its own share.
    """
    terms, spellings = _terms(texts)
    members = [np.flatnonzero(cluster == number) for number in range(cluster.max() + 1)]
    shares = [_shares(terms, weights, rows) for rows in members]
    total: Counter[str] = Counter()
    for share in shares:
        total.update(share)
    labelled = []
    for share, rows in zip(shares, members):
        scores = {term: tf * np.log(len(shares) * tf / total[term]) for term, tf in share.items()}
        # Terms of equal score are ordered by their letters, so that the order of a set has no influence.
        ranked = sorted(scores, key=lambda term: (-round(scores[term], 9), term))
        if not ranked or share[ranked[0]] < LEAST_COVERAGE:
            continue
        first = ranked[0]
        words = set(first.split())
        others = (term for term in ranked[1:] if share[term] >= SECOND_COVERAGE and not words & set(term.split()))
        label = " · ".join(spellings[term] for term in (first, *list(others)[:1]))
        holders = np.array([row for row in rows if first in terms[row]])
        labelled.append((label, float(scores[first]), rows, holders))
    return labelled


def _shares(terms: Sequence[set[str]], weights: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """The weighted share of some chunks that holds each term."""
    sums: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for term in terms[row]:
            sums[term] += weights[row]
    return {term: float(weight / weights[rows].sum()) for term, weight in sums.items()}


def _terms(texts: Sequence[str]) -> tuple[list[set[str]], dict[str, str]]:
    """Words and pairs of neighbouring words of each chunk, in lower case, and the most frequent spelling of each.

    A chunk may begin or end inside a word. The rest of a word at its beginning is left out, and so is a last word that
    never stands before anything but a letter, unless chunks are too short for any word to be followed by something.
    """
    found = [[(m[0], m.start(), m.end()) for m in _WORD.finditer(text)] for text in texts]
    followed = {word.lower() for text, words in zip(texts, found) for word, _, end in words if end < len(text)}
    is_short = len(followed) < 0.1 * len(texts)
    terms: list[set[str]] = []
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, words in zip(texts, found):
        kept = [
            (word, start, end)
            for word, start, end in words
            if (start > 0 or word[0].isupper()) and (is_short or word.lower() in followed)
        ]
        pairs = [f"{a} {b}" for (a, _, end), (b, start, _) in pairwise(kept) if text[end:start] == " "]
        spelled = [word for word, _, _ in kept] + pairs
        for term in spelled:
            spellings[term.lower()][term] += 1
        terms.append({term.lower() for term in spelled})
    return terms, {term: spelled.most_common(1)[0][0] for term, spelled in spellings.items()}


def density(positions: np.ndarray) -> Density:
    """The density of positions [n, 2 or more] over a grid of their first two dimensions."""
    low, high = positions[:, :2].min(0), positions[:, :2].max(0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    x, y = (np.linspace(low[i], high[i], GRID) for i in (0, 1))
    kernels = [
        np.exp(-0.5 * ((axis[:, None] - positions[:, i]) / (BANDWIDTH * (axis[1] - axis[0]))) ** 2)
        for i, axis in enumerate((x, y))
    ]
    values = np.sqrt(kernels[1] @ kernels[0].T)  # the kernel is a product of one factor per dimension
    scaled = np.round(100 * values / values.max()).astype(int)
    columns, rows = (np.round(axis[[0, -1]].astype(float), 3).tolist() for axis in (x, y))
    return Density(columns, rows, scaled.tolist())
