"""Students: networks by name, the blocks they share, their input and output."""

from kd_seg.networks.batch import Batch, Encoded, Encoding, Level, Output, collate, encode, move
from kd_seg.networks.registry import NETWORKS, build_network

__all__ = [
    "NETWORKS",
    "Batch",
    "Encoded",
    "Encoding",
    "Level",
    "Output",
    "build_network",
    "collate",
    "encode",
    "move",
]
