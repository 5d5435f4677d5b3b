"""Disjoint sets against SciPy's connected components."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kd_seg.voxels.disjoint import join, settle


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60))
def test_joined_entries_share_their_sets_least_member(count: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a % count, b % count) for a, b in pairs]
    parent = np.arange(count)
    for a, b in pairs:
        join(parent, a, b)
    settle(parent)
    rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    wanted = [int(np.flatnonzero(labels == label)[0]) for label in labels]
    assert parent.tolist() == wanted
