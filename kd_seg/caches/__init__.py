"""What is prepared on disk: per scan a few named arrays, built once, checked against the data, memory-mapped.

Three kinds use it: the instance library and its registrations, and what teachers predicted. A cache is a folder with
``header.json`` (format, what it was made from, settings) and ``shards/``, one safetensors file per block of scans.
"""

from kd_seg.caches.build import Maker, build_cache, missing_shards
from kd_seg.caches.cache import Cache
from kd_seg.caches.header import CacheKind, CachePlan, Header, cache_path, read_header
from kd_seg.caches.shards import Record
from kd_seg.caches.work import Work

__all__ = [
    "Cache",
    "CacheKind",
    "CachePlan",
    "Header",
    "Maker",
    "Record",
    "Work",
    "build_cache",
    "cache_path",
    "missing_shards",
    "read_header",
]
