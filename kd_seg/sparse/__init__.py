"""Sparse tensors and convolution: the one room that chooses what computes them, and the only one that knows spconv."""

from kd_seg.sparse.choose import using
from kd_seg.sparse.layers import Down, Submanifold, Up
from kd_seg.sparse.pooling import pool_rows
from kd_seg.sparse.tensor import SparseTensor, sparse_tensor

__all__ = ["Down", "SparseTensor", "Submanifold", "Up", "pool_rows", "sparse_tensor", "using"]
