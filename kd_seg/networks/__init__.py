"""Students: networks by name, the blocks they share, their input and output."""

from kd_seg.networks.batch import Batch, Encoded, Encoding, Level, Output, collate, encode, move

__all__ = ["Batch", "Encoded", "Encoding", "Level", "Output", "collate", "encode", "move"]
