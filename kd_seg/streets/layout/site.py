"""The ground to be built on: what is taken, what may stand where, and lots along a street."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from kd_seg.streets.layout.covers import LOT
from kd_seg.streets.layout.ground import Patch, Plan
from kd_seg.streets.layout.network import Side, Street
from kd_seg.streets.objects.catalogue import Item
from kd_seg.streets.objects.materials import Cover
from kd_seg.streets.objects.mesh import Floats

VARIANTS = {
    "tree": 14, "conifer": 8, "bush": 14, "hedge": 8, "thicket": 8, "shrubs": 8, "weeds": 4, "fence": 24, "rail": 3,
}  # fmt: skip
"""How many prototypes of a kind a sequence plants; everything else is unique."""
PIECE = 8.0
"""Metres of the prototypes that are made to length; others are stretched from it."""
GRAIN = 0.7
"""Metres per cell of what is taken."""
CAR = 10


@dataclass
class StreetSite:
    """Where things may still be put: a set of taken cells, and what has been put; ``path`` are the cells of the
    driven path, taken though nothing stands there.
    """

    plan: Plan
    rng: np.random.Generator
    base: int
    items: list[Item] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    taken: set[tuple[int, int]] = field(default_factory=set)
    decks: dict[str, list[str]] = field(default_factory=dict)
    path: frozenset[tuple[int, int]] = frozenset()
    cars: int = 0

    def draw(self, name: str, cards: tuple[str, ...]) -> str:
        """A card of a deck that is shuffled again when empty: choices keep their proportions even over few lots."""
        if not self.decks.get(name):
            self.decks[name] = [str(card) for card in self.rng.permutation(cards)]
        return self.decks[name].pop()

    def variant(self, kind: str) -> int:
        """A shape seed: one of the sequence's prototypes, or fresh."""
        if kind in VARIANTS:
            return self.base * 100 + int(self.rng.integers(VARIANTS[kind]))
        return int(self.rng.integers(1 << 31))

    def cover(self, place: Floats) -> int:
        """Cover at one place [2], lots without patches."""
        cover = int(self.plan.at(np.asarray(place)[None]).cover[0])
        return cover - LOT if cover >= LOT else cover

    def on_lots(self, places: Floats) -> bool:
        """Whether no street runs over any of the places [K, 2]."""
        return bool((self.plan.at(places).cover >= LOT).all())

    def free(self, places: Floats) -> bool:
        """Whether nothing stands on any of the places [K, 2]."""
        return self.taken.isdisjoint(_cells(places))

    def off_path(self, place: Floats, reach: float = 1.8) -> bool:
        """Whether a square ``reach`` metres about a place [2] is clear of the driven path, so that foliage is too."""
        return self.path.isdisjoint(_cells(footprint(place, 0.0, 2 * reach, 2 * reach)))

    def sight(self, start: Floats, end: Floats) -> bool:
        """Whether nothing placed stands between two places [2]; what is within 2 m of either does not count."""
        gap = float(np.linalg.norm(end - start))
        if gap < 4.5:
            return True
        share = np.arange(2.0, gap - 2.0, GRAIN)[:, None] / gap
        return (_cells(start + share * (end - start)) - self.path).isdisjoint(self.taken)

    def take(self, places: Floats) -> None:
        """Mark places [K, 2] as taken."""
        self.taken.update(_cells(places))

    def put(
        self,
        kind: str,
        place: Floats,
        yaw: float,
        length: float,
        width: float,
        *,
        lots: bool = True,
        shared: bool = False,
        take: bool = True,
        size: tuple[float, ...] = (0.0,),
        stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
        word: int = 0,
    ) -> bool:
        """Place an object where its footprint fits; returns whether it was placed.

        Args:
            kind: key of the catalogue.
            place, yaw: where its origin comes to stand [2] (metres, world), and its heading.
            length, width: metres of ground it needs.
            lots: no street may run there.
            shared: other things may stand there.
            take: bar the ground for what comes later.
            size, stretch, word: see Item.
        """
        places = footprint(place, yaw, length, width)
        if (lots and not self.on_lots(places)) or not (shared or self.free(places)):
            return False
        if take:
            self.take(places)
        self.items.append(
            Item(kind, float(place[0]), float(place[1]), float(yaw), self.variant(kind), size, stretch, word)
        )
        return True

    def plant(
        self, kind: str, place: Floats, low: float = 0.8, high: float = 1.25, clear: float = 0.6, shared: bool = False
    ) -> bool:
        """A plant of random turn and stretch on a lot; foliage may touch its neighbours."""
        s = self.rng.uniform(low, high)
        stretch = (float(s), float(s * self.rng.uniform(0.9, 1.1)), float(s * self.rng.uniform(0.9, 1.1)))
        yaw = self.rng.uniform(-np.pi, np.pi)
        if not self.off_path(np.asarray(place)):
            return False
        return self.put(kind, place, yaw, clear, clear, take=False, shared=shared, stretch=stretch)

    def park(self, place: Floats, yaw: float, *, lots: bool = False, shared: bool = False) -> bool:
        """A parked car with an instance id of its own."""
        placed = self.put("car", place, yaw, 4.9, 2.0, lots=lots, shared=shared, word=CAR | (self.cars + 1) << 16)
        self.cars += placed
        return placed


@dataclass(frozen=True)
class Lot:
    """A stretch of one side of a street.

    Attributes:
        site, street: where it is.
        side: +1 left of the street, -1 right.
        first, last: metres along the street.
        front: metres from the centre line to the edge of the lot proper.
    """

    site: StreetSite
    street: Street
    side: int
    first: float
    last: float
    front: float

    @property
    def wide(self) -> float:
        """Metres along the street."""
        return self.last - self.first

    @property
    def middle(self) -> float:
        """Metres along the street of its middle."""
        return (self.first + self.last) / 2

    def anywhere(self) -> float:
        """Random metres along the street within the lot."""
        return float(self.site.rng.uniform(self.first, self.last))

    def at(self, s: float, out: float) -> Floats:
        """Place [2] at ``s`` metres along the street, ``out`` metres behind the front."""
        return self.street.at(s, self.side * (self.front + out))[0]

    def yaw(self, s: float | None = None) -> float:
        """Heading of things whose own -y side faces the street."""
        heading = float(self.street.at(self.middle if s is None else s, 0.0)[1])
        return heading + (0.0 if self.side > 0 else np.pi)

    def pave(self, s: float, out: float, length: float, depth: float, cover: Cover) -> None:
        """A patch ``length`` along the street and ``depth`` away from it, its middle at (s, out)."""
        x, y = self.at(s, out)
        self.site.patches.append(Patch(float(x), float(y), self.yaw(s), length, depth, cover))

    def along(
        self,
        kind: str,
        first: float,
        last: float,
        out: float,
        across: float = 0.5,
        tall: tuple[float, float] = (0.85, 1.2),
    ) -> None:
        """A fence, hedge, rail or thicket from ``first`` to ``last``, in pieces along the curve, not over streets."""
        site = self.site
        variant = site.variant(kind)
        count = max(int(np.ceil((last - first) / PIECE)), 1)
        piece = (last - first) / count
        if piece < 0.8:
            return
        even = 1.0 if kind == "rail" else float(site.rng.uniform(*tall))
        for k in range(count):
            s = first + (k + 0.5) * piece
            place, yaw = self.at(s, out), self.yaw(s)
            if not site.on_lots(footprint(place, yaw, piece, across)):
                continue
            own = variant if kind not in ("thicket", "shrubs") else site.variant(kind)
            site.take(footprint(place, yaw, piece - 0.5, 0.2))
            high = even if kind in ("fence", "hedge", "rail") else float(site.rng.uniform(*tall))
            item = Item(kind, float(place[0]), float(place[1]), yaw, own, (PIECE,), (piece / PIECE, 1.0, high))
            site.items.append(item)


def footprint(place: Floats, yaw: float, length: float, width: float) -> Floats:
    """Places [K, 2] that cover a rectangle about ``place`` at steps of about GRAIN."""
    u, v = _steps(length), _steps(width)[:, None]
    c, s = np.cos(yaw), np.sin(yaw)
    places = np.empty((len(v), len(u), 2))
    places[..., 0] = place[0] + c * u - s * v
    places[..., 1] = place[1] + s * u + c * v
    return places.reshape(-1, 2)


@lru_cache(maxsize=1024)
def _steps(length: float) -> Floats:
    return np.linspace(-length / 2, length / 2, max(int(length / GRAIN) + 1, 2))


def section(street: Street, side: int) -> Side:
    """The cross-section of one side."""
    return street.left if side > 0 else street.right


def _cells(places: Floats) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in np.floor(places / GRAIN)}
