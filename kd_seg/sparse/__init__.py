"""Sparse tensors and convolution: the one room that knows spconv and chooses the backend by device."""

from kd_seg.sparse.convolution import Down, SparseTensor, Submanifold, Up, pool_rows, sparse_tensor

__all__ = ["Down", "SparseTensor", "Submanifold", "Up", "pool_rows", "sparse_tensor"]
