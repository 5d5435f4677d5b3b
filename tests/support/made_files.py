"""Point files made for tests: PCD and PLY as writers in the wild make them, and an LZF compressor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PcdField = tuple[str, int, str, int]
XYZ: list[PcdField] = [("x", 4, "F", 1), ("y", 4, "F", 1), ("z", 4, "F", 1)]
XYZI: list[PcdField] = [*XYZ, ("intensity", 4, "F", 1)]


def street(azimuths: int = 60, seed: int = 0) -> np.ndarray:
    """A made-up scan [N, 4] float32, intensity 0-1: 64 rings on a plane and walls."""
    rng = np.random.default_rng(seed)
    elevation = np.radians(np.linspace(2.0, -24.8, 64))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, azimuths, endpoint=False)[None]
    ground = np.where(elevation < -0.02, 1.73 / np.maximum(np.tan(-elevation), 1e-3), 1e9) + 0 * azimuth
    wall = np.minimum(9.0 / np.maximum(abs(np.sin(azimuth)), 1e-3), 60.0) + 0 * elevation
    flat = np.minimum(ground, wall)
    z = flat * np.tan(elevation) + rng.normal(0, 0.01, flat.shape)
    intensity = np.clip(np.where(ground < wall, 0.25, 0.45) + rng.normal(0, 0.05, flat.shape), 0, 1)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), z, intensity], -1).reshape(-1, 4).astype("<f4")


def one_sentence(error: Exception) -> None:
    """Messages are for people: one line, no control characters."""
    assert str(error).isprintable()


def columns_of(points: np.ndarray, intensity: str = "intensity") -> dict[str, np.ndarray]:
    return {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2], intensity: points[:, 3]}


def table(fields: Sequence[PcdField], columns: Mapping[str, np.ndarray], order: str = "<") -> np.ndarray:
    """Packed rows with the columns in the first field of their name, zeros elsewhere."""
    count = len(next(iter(columns.values())))
    kinds = {"F": "f", "U": "u", "I": "i"}
    dtype = [(f"f{k}", f"{order}{kinds[t]}{s}", (c,)) for k, (_, s, t, c) in enumerate(fields)]
    rows = np.zeros(count, dtype)
    seen: set[str] = set()
    for k, (name, _, _, c) in enumerate(fields):
        if name in columns and name not in seen and c == 1:
            seen.add(name)
            with np.errstate(invalid="ignore"):
                rows[f"f{k}"][:, 0] = columns[name]
    return rows


def pcd(fields: Sequence[PcdField], columns: Mapping[str, np.ndarray], data: str = "binary", end: str = "\n") -> bytes:
    """A .pcd file of one of the three kinds of data."""
    rows = table(fields, columns)
    head = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7"]
    for word, place in (("FIELDS", 0), ("SIZE", 1), ("TYPE", 2), ("COUNT", 3)):
        head.append(f"{word} " + " ".join(str(field[place]) for field in fields))
    head += [f"WIDTH {len(rows)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {len(rows)}", f"DATA {data}"]
    header = (end.join(head) + end).encode()
    if data == "binary":
        return header + rows.tobytes()
    if data == "ascii":
        lines = (" ".join(f"{v:.9g}" for name in rows.dtype.names for v in row[name]) for row in rows)
        return header + "".join(f"{line}{end}" for line in lines).encode()
    stored = [(k, f) for k, f in enumerate(fields) if f[0] != "_"]
    plain = b"".join(rows[f"f{k}"].tobytes() for k, _ in stored)
    packed = lzf(plain)
    return header + np.array([len(packed), len(plain)], "<u4").tobytes() + packed


def lzf(plain: bytes) -> bytes:
    """Greedy LZF: literal runs of up to 32 bytes, references of 3 to 264 bytes up to 8,192 back."""
    out, literals, at = bytearray(), bytearray(), 0
    places: dict[bytes, int] = {}

    def flush() -> None:
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.append(len(run) - 1)
            out.extend(run)
        literals.clear()

    while at < len(plain):
        key = plain[at : at + 3]
        found = places.get(key, -1)
        places[key] = at
        length = 0
        if len(key) == 3 and found >= 0 and at - found <= 8192:
            while length < 264 and at + length < len(plain) and plain[found + length] == plain[at + length]:
                length += 1
        if length < 3:
            literals.append(plain[at])
            at += 1
            continue
        flush()
        back, short = at - found - 1, length - 2
        out.append(min(short, 7) << 5 | back >> 8)
        if short >= 7:
            out.append(short - 7)
        out.append(back & 255)
        at += length
    flush()
    return bytes(out)


def ply(
    properties: Sequence[tuple[str, str]], columns: Mapping[str, np.ndarray], form: str = "binary_little_endian"
) -> bytes:
    """A .ply file with one vertex element; ``properties`` are (NumPy kind, name)."""
    words = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int", "u2": "ushort"}
    count = len(next(iter(columns.values())))
    head = f"ply\nformat {form} 1.0\ncomment made for a test\nelement vertex {count}\n"
    head += "".join(f"property {words[kind]} {name}\n" for kind, name in properties) + "end_header\n"
    order = ">" if form.endswith("big_endian") else "<"
    rows = np.zeros(count, [(name, order + kind) for kind, name in properties])
    for _, name in properties:
        rows[name] = columns[name]
    if form == "ascii":
        return head.encode() + "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in rows.tolist()).encode()
    return head.encode() + rows.tobytes()
