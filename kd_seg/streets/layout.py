"""What stands beside the streets: houses, gardens, fences, plants, furniture and parked cars, by the style of the
place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kd_seg.streets.catalogue import Item
from kd_seg.streets.ground import LOT, Patch, Plan
from kd_seg.streets.materials import Cover
from kd_seg.streets.mesh import Floats
from kd_seg.streets.network import Network, Side, Street

VARIANTS = {
    "tree": 14,
    "conifer": 8,
    "bush": 14,
    "hedge": 8,
    "thicket": 8,
    "shrubs": 8,
    "weeds": 4,
    "fence": 24,
    "rail": 3,
}
"""How many prototypes of a kind a sequence plants."""
CAR = 10


@dataclass
class Site:
    """Where things may still be put: a set of taken cells, and what has been put."""

    plan: Plan
    rng: np.random.Generator
    items: list[Item]
    patches: list[Patch]
    taken: set[tuple[int, int]]
    base: int
    cars: int = 0

    def variant(self, kind: str) -> int:
        """A shape seed: one of the sequence's prototypes, or fresh."""
        if kind in VARIANTS:
            return self.base * 100 + int(self.rng.integers(VARIANTS[kind]))
        return int(self.rng.integers(1 << 31))

    def footprint(self, x: float, y: float, yaw: float, length: float, width: float) -> Floats:
        """Places [K, 2] that cover a rectangle at about 0.7 m."""
        a = np.linspace(-length / 2, length / 2, max(int(length / 0.7) + 1, 2))
        b = np.linspace(-width / 2, width / 2, max(int(width / 0.7) + 1, 2))
        u, v = (m.ravel() for m in np.meshgrid(a, b))
        c, s = np.cos(yaw), np.sin(yaw)
        return np.stack([x + c * u - s * v, y + s * u + c * v], 1)

    def free(self, places: Floats, lots: bool) -> bool:
        """Whether nothing stands there and, with ``lots``, no street runs there."""
        if lots and (self.plan.look(places)[0] < LOT).any():
            return False
        return not any(cell in self.taken for cell in _cells(places))

    def take(self, places: Floats) -> None:
        """Mark places as taken."""
        self.taken.update(_cells(places))

    def put(
        self,
        kind: str,
        x: float,
        y: float,
        yaw: float,
        length: float,
        width: float,
        lots: bool = True,
        take: bool = True,
        size: tuple[float, ...] = (0.0,),
        stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
        word: int = 0,
        inside: bool = False,
    ) -> bool:
        """Place an object if its footprint is free; says whether it was.

        ``inside`` a lot already taken only streets bar.
        """
        places = self.footprint(x, y, yaw, length, width)
        if (self.plan.look(places)[0] < LOT).any() if inside else not self.free(places, lots):
            return False
        if take:
            self.take(places)
        self.items.append(Item(kind, float(x), float(y), float(yaw), self.variant(kind), size, stretch, word))
        return True

    def plant(self, kind: str, x: float, y: float, low: float = 0.8, high: float = 1.25, clear: float = 0.6) -> bool:
        """A plant of random turn and stretch; foliage may touch its neighbours."""
        s = self.rng.uniform(low, high)
        stretch = (s, s * self.rng.uniform(0.9, 1.1), s * self.rng.uniform(0.9, 1.1))
        yaw = self.rng.uniform(-np.pi, np.pi)
        return self.put(kind, x, y, yaw, clear, clear, take=False, stretch=stretch)

    def park(self, x: float, y: float, yaw: float, lots: bool = False, inside: bool = False) -> bool:
        """A parked car with an instance id of its own."""
        if self.put("car", x, y, yaw, 4.9, 2.0, lots=lots, word=CAR | (self.cars + 1) << 16, inside=inside):
            self.cars += 1
            return True
        return False


def furnish(network: Network, plan: Plan, rng: np.random.Generator, base: int) -> Site:
    """A site with all standing stuff and parked cars of a network; its plan holds the ground patches laid with them."""
    site = Site(plan, rng, [], [], set(), base)
    for shift in np.arange(-1.4, 1.5, 0.7):
        forward = np.gradient(network.path, axis=0)
        normal = np.stack([-forward[:, 1], forward[:, 0]], 1) / np.linalg.norm(forward, axis=1)[:, None]
        site.take(network.path + shift * normal)
    for street in network.streets:
        for side in (1, -1):
            _kerbside(site, street, side)
    for street in network.streets:
        for side in (1, -1):
            _lots(site, street, side)
            _background(site, street, side)
    if network.style.name == "motorway":
        _median(site, network.streets[0])
    site.plan = replace(plan, patches=tuple(site.patches))
    return site


def _cells(places: Floats) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in np.floor(places / 0.7)}


def _side(street: Street, side: int) -> Side:
    return street.left if side > 0 else street.right


def _kerbside(site: Site, street: Street, side: int) -> None:
    """Parked cars, street trees, lamps, signs, bins and posts between the road and the lots."""
    rng, section, name = site.rng, _side(street, side), street.style.name
    end = street.length()
    if section.parking > 0:
        s = rng.uniform(2, 8)
        busy = rng.uniform(0.35, 0.9)
        while s < end:
            place, heading = street.at(s, side * (street.half + section.parking / 2 + rng.normal(0, 0.06)))
            at = plan_cover(site.plan, place)
            if at == Cover.PARKING and rng.random() < busy:
                flip = np.pi if (side > 0) != (rng.random() < 0.15) else 0.0
                site.park(*place, float(heading) + flip + rng.normal(0, 0.02))
            s += rng.uniform(5.4, 7.0)
    elif name in ("residential", "industrial") and rng.random() < 0.6:
        s = rng.uniform(5, 20)
        while s < end:
            place, heading = street.at(s, side * (street.half - 0.75))
            if abs(street.half) > 2.9 and _clear(site.plan, street, s) and rng.random() < 0.9:
                site.park(*place, float(heading) + (np.pi if side > 0 else 0.0) + rng.normal(0, 0.02))
            s += rng.uniform(5.6, 20.0)
    pitch = {"city": 46.0, "residential": 64.0, "industrial": 70.0, "country": 130.0, "motorway": 100.0}[name]
    edge = street.half + section.parking
    s = rng.uniform(0, pitch)
    row = rng.random() < 0.5
    while s < end:
        yaw_to_road = lambda h: float(h) + (0.0 if side > 0 else np.pi)  # noqa: E731
        if row:
            place, heading = street.at(s, side * (edge + 0.5))
            if plan_cover(site.plan, place) in (Cover.SIDEWALK, Cover.GRASS):
                site.put("lamp", *place, yaw_to_road(heading), 0.3, 0.3, lots=False)
        s += pitch * rng.uniform(0.85, 1.15)
    for kind, every in (
        ("sign", 85.0),
        ("post", 170.0),
        ("bin", 110.0),
        ("cabinet", 170.0),
        ("light", 260.0),
        ("planter", 220.0),
        ("bench", 260.0),
    ):
        if name in ("country", "motorway"):
            every *= 1.6 if kind in ("sign", "post") else 50.0
        s = rng.exponential(every)
        while s < end:
            deep = {"bin": section.walk * 0.8, "cabinet": section.walk * 0.85, "bench": section.walk * 0.8}.get(
                kind, 0.45
            )
            place, heading = street.at(s, side * (edge + section.verge * 0.3 + max(deep, 0.45)))
            if plan_cover(site.plan, place) in (Cover.SIDEWALK, Cover.GRASS):
                facing = float(heading) + (np.pi if side > 0 else 0.0)
                turn = facing if kind in ("sign", "light") else float(heading) + rng.choice([0, np.pi])
                site.put(kind, *place, turn, 0.5, 0.5, lots=False)
            s += rng.exponential(every) + 3.0
    if section.verge > 0.9 or (name == "city" and rng.random() < 0.35):
        every, s = rng.uniform(11, 22), rng.uniform(0, 10)
        while s < end and name not in ("motorway",):
            place, _ = street.at(s, side * (edge + 0.8))
            if plan_cover(site.plan, place) in (Cover.SIDEWALK, Cover.GRASS) and rng.random() < 0.8:
                stretch = (0.85, 0.85, float(rng.uniform(0.9, 1.3)))
                site.put("tree", *place, rng.uniform(-3, 3), 0.4, 0.4, lots=False, stretch=stretch)
            s += every * rng.uniform(0.8, 1.3)
    if name in ("country", "motorway"):
        s = rng.uniform(0, 40)
        while s < end:
            place, heading = street.at(s, side * (edge + 0.8))
            if _clear(site.plan, street, s):
                site.put("delineator", *place, float(heading) + (np.pi if side > 0 else 0.0), 0.2, 0.2, lots=False)
            s += 40.0 if name == "country" else 50.0


def plan_cover(plan: Plan, place: Floats) -> int:
    """Cover at one place, lots without patches."""
    cover = int(plan.look(np.asarray(place)[None])[0][0])
    return cover - LOT if cover >= LOT else cover


def _clear(plan: Plan, street: Street, s: float) -> bool:
    """Whether no other street's road is within 12 m along the street."""
    probe, _ = street.at(np.array([s - 10.0, s, s + 10.0]), street.half + 0.6)
    other, _ = street.at(np.array([s - 10.0, s, s + 10.0]), -street.half - 0.6)
    covers = np.concatenate([plan.look(probe)[0], plan.look(other)[0]])
    return not np.isin(covers, (Cover.ROAD, Cover.MARKING)).any()


def _lots(site: Site, street: Street, side: int) -> None:
    name = street.style.name
    s = site.rng.uniform(0, 6)
    while s < street.length():
        if name == "city":
            wide = site.rng.uniform(11, 24)
            _city_lot(site, street, side, s + wide / 2, wide)
        elif name == "residential" and site.rng.random() < 0.13:
            wide = site.rng.uniform(18, 40)
            _open_square(site, street, side, s + wide / 2, wide)
        elif name == "residential" and site.rng.random() < 0.14:
            wide = site.rng.uniform(10, 26)
            _grove(site, street, side, s + wide / 2, wide)
        elif name == "residential":
            wide = site.rng.uniform(12, 20)
            _garden_lot(site, street, side, s + wide / 2, wide)
        elif name == "industrial":
            wide = site.rng.uniform(26, 50)
            _yard_lot(site, street, side, s + wide / 2, wide)
        else:
            wide = site.rng.uniform(14, 30)
            _open_lot(site, street, side, s + wide / 2, wide)
        s += wide


def _background(site: Site, street: Street, side: int) -> None:
    """Houses and trees 30 to 80 m from the street, seen between and over what stands at it."""
    rng, name = site.rng, street.style.name
    town = name in ("residential", "city", "industrial")
    s = rng.uniform(0, 10)
    while s < street.length():
        out = street.half + rng.uniform(26, 80)
        place, heading = street.at(s, side * out)
        use = rng.random()
        if town and use < 0.6:
            size = (round(float(rng.uniform(10, 18)), 1), round(float(rng.uniform(9, 12)), 1), int(rng.integers(1, 4)))
            site.put("house", *place, float(heading) + rng.choice([0, np.pi / 2]), size[0], size[1], size=size)
        elif use < 0.8:
            for _ in range(rng.integers(2, 6)):
                site.plant(
                    "tree" if rng.random() < 0.8 else "conifer", *(place + rng.normal(0, 5, 2)), 1.0, 1.6, clear=1.0
                )
            for _ in range(rng.integers(2, 6)):
                site.plant("bush", *(place + rng.normal(0, 5, 2)), 1.5, 3.0)
        else:
            yaw = float(heading) + (0.0 if side > 0 else np.pi) + rng.normal(0, 0.3)
            site.put(
                "thicket",
                *place,
                yaw,
                8,
                1,
                size=(8.0,),
                stretch=(rng.uniform(1, 2), 1.2, rng.uniform(1, 1.4)),
                take=False,
            )
        s += rng.uniform(4, 10)


def _along(
    site: Site, kind: str, street: Street, side: int, first: float, last: float, out: float, across: float = 0.5,
    tall: tuple[float, float] = (0.85, 1.2),
) -> None:  # fmt: skip
    """A fence, hedge, rail or thicket along the street from ``first`` to ``last``, in pieces that follow the curve."""
    variant = site.variant(kind)
    count = max(int(np.ceil((last - first) / 8.0)), 1)
    piece = (last - first) / count
    if piece < 0.8:
        return
    even = 1.0 if kind == "rail" else float(site.rng.uniform(*tall))
    for k in range(count):
        place, heading = street.at(first + (k + 0.5) * piece, side * out)
        places = site.footprint(*place, float(heading), piece, across)
        if (site.plan.look(places)[0] < LOT).any():
            continue
        own = variant if kind not in ("thicket", "shrubs") else site.variant(kind)
        yaw = float(heading) + (0.0 if side > 0 else np.pi)
        site.take(site.footprint(*place, yaw, piece - 0.5, 0.2))
        high = even if kind in ("fence", "hedge", "rail") else float(site.rng.uniform(*tall))
        site.items.append(Item(kind, *map(float, place), yaw, own, (8.0,), (piece / 8.0, 1.0, high)))


def _garden_lot(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    rng = site.rng
    front = street.half + _side(street, side).width() + (rng.uniform(0.5, 6.0) if rng.random() < 0.7 else 0.15)
    first, last = s - wide / 2, s + wide / 2
    drive = first + 2.2 if rng.random() < 0.5 else last - 2.2
    setback = rng.uniform(3.0, 11.0)
    boundary = str(rng.choice(["fence", "hedge", "none", "both"], p=[0.48, 0.16, 0.18, 0.18]))
    for a, b in ((first, drive - 1.7), (drive + 1.7, last)):
        if boundary in ("fence", "both"):
            _along(site, "fence", street, side, a, b, front + 0.15, 0.2, (0.5, 1.0))
        if boundary in ("hedge", "both"):
            _along(site, "hedge", street, side, a, b, front + (1.0 if boundary == "both" else 0.5), tall=(0.35, 0.7))
        if boundary != "both" and rng.random() < 0.25:
            _along(site, "shrubs", street, side, a, b, front + rng.uniform(1.6, 3.0), tall=(0.3, 0.75))
    if rng.random() < 0.6:
        place, heading = street.at(drive, side * (front + 5.0))
        cover = (Cover.PAVED, Cover.SIDEWALK, Cover.PAVED, Cover.SOIL)[int(rng.integers(4))]
        site.patches.append(Patch(*map(float, place), float(heading) + np.pi / 2, 10.4, 3.0, cover))
        if rng.random() < 0.4:
            site.park(
                *street.at(drive, side * (front + rng.uniform(3, 6)))[0],
                float(heading) + np.pi / 2 * rng.choice([-1, 1]),
                lots=True,
            )
    width, depth = rng.uniform(10, wide - 0.8), rng.uniform(8, 12)
    floors = int(rng.choice([1, 2, 2, 3]))
    out = front + setback + depth / 2
    if rng.random() < 0.97:
        place, heading = street.at(s, side * out)
        yaw = float(heading) + (0.0 if side > 0 else np.pi)
        site.put("house", *place, yaw, width + 0.5, depth + 0.5, size=(round(width, 1), round(depth, 1), floors))
    if rng.random() < 0.4 and setback > 4.0:
        place, heading = street.at(s, side * (front + setback / 2 + 1.0))
        paving = Cover.SIDEWALK if rng.random() < 0.5 else Cover.PAVED
        site.patches.append(Patch(*map(float, place), float(heading), width * 0.7, setback - 1.5, paving))
    if rng.random() < 0.35:
        place, heading = street.at(drive, side * (front + rng.uniform(10, 16)))
        site.put("shed", *place, float(heading) + (0.0 if side > 0 else np.pi), 5, 5)
    for _ in range(rng.integers(10, 22)):
        deep = rng.uniform(0.8, setback) if rng.random() < 0.2 else setback + rng.uniform(1.0, depth + 10)
        site.plant("bush", *street.at(rng.uniform(first, last), side * (front + deep))[0], 0.9, 1.7)
    for edge in (first, last):
        for _ in range(rng.integers(1, 4)):
            at = street.at(edge + rng.normal(0, 0.7), side * (front + setback + rng.uniform(-2, depth)))[0]
            site.plant("bush" if rng.random() < 0.7 else "conifer", *at, 1.1, 2.0)
    if rng.random() < 0.6:
        edge = first if rng.random() < 0.5 else last
        _along(
            site, "shrubs", street, side, edge - 1.5, edge + 1.5, front + setback + rng.uniform(0, 4), tall=(0.8, 1.5)
        )
    for _ in range(rng.integers(2, 7)):
        kind = "tree" if rng.random() < 0.75 else "conifer"
        deep = rng.uniform(1.5, setback) if rng.random() < 0.4 else setback + depth + rng.uniform(2, 15)
        site.plant(kind, *street.at(rng.uniform(first, last), side * (front + deep))[0], clear=1.0)
    if rng.random() < 0.8:
        place, heading = street.at(first, side * (front + 7.5))
        kind = "fence" if rng.random() < 0.45 else "hedge"
        site.put(kind, *place, float(heading) + np.pi / 2, 12.0, 0.3, size=(8.0,), stretch=(1.5, 1.0, 1.0))
    place, heading = street.at(s, side * (front + setback + depth + rng.uniform(10, 16)))
    if rng.random() < 0.9:
        site.put(
            "thicket",
            *place,
            float(heading) + (0.0 if side > 0 else np.pi),
            8,
            1,
            size=(8.0,),
            stretch=(wide / 8.0, 1.0, 1.0),
            take=False,
        )
    if rng.random() < 0.3:
        place, heading = street.at(rng.uniform(first, last), side * (front + rng.uniform(1, 4)))
        kind = str(rng.choice(["rubble", "bin", "bench", "structure", "planter"]))
        site.put(kind, *place, float(heading) + (0.0 if side > 0 else np.pi), 1.2, 0.8)


def _open_square(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    """A car park, playground or green of 15 to 40 m, low at the street, trees and a hedge at its back."""
    rng = site.rng
    front = street.half + _side(street, side).width() + 0.15
    deep = rng.uniform(15, 40)
    place, heading = street.at(s, side * (front + deep / 2))
    cover = (Cover.PARKING, Cover.SIDEWALK, Cover.PAVED, Cover.GRASS)[int(rng.choice(4, p=[0.05, 0.13, 0.0, 0.82]))]
    site.patches.append(Patch(*map(float, place), float(heading), wide - 1.0, deep, cover))
    site.take(site.footprint(*place, float(heading), wide - 1.5, deep - 1.0))
    if rng.random() < 0.5:
        _along(site, "fence", street, side, s - wide / 2 + 0.5, s + wide / 2 - 0.5, front + 0.2, 0.2, (0.5, 1.0))
    back = str(rng.choice(["hedge", "fence", "thicket", "shrubs"], p=[0.2, 0.2, 0.4, 0.2]))
    _along(site, back, street, side, s - wide / 2 + 2, s + wide / 2 - 2, front + deep + 1.5)
    for _ in range(rng.integers(2, 6)):
        at = street.at(s + rng.uniform(-0.5, 0.5) * wide, side * (front + deep + rng.uniform(2, 6)))[0]
        site.plant("tree" if rng.random() < 0.6 else "bush", *at, 1.0, 1.5, clear=1.0)
    if cover == Cover.GRASS:
        for _ in range(int(wide * deep / 45)):
            at = street.at(s + rng.uniform(-0.5, 0.5) * wide, side * (front + deep * rng.uniform(0.2, 1.0)))[0]
            kind = str(rng.choice(["tree", "bush", "conifer"], p=[0.3, 0.55, 0.15]))
            size = float(rng.uniform(1.0, 1.6))
            site.put(kind, *at, rng.uniform(-3, 3), 1.5, 1.5, stretch=(size, size, size), inside=True, take=False)
    if cover == Cover.PARKING:
        for k in np.arange(-wide / 2 + 2, wide / 2 - 2, 2.8):
            for row in (deep - 3.0, deep - 14.0):
                if row > 3 and rng.random() < 0.4:
                    at, _ = street.at(s + k, side * (front + row))
                    yaw = float(heading) + np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.03)
                    site.park(*at, yaw, inside=True)


def _grove(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    """A lot left to trees and undergrowth, perhaps behind a fence."""
    rng = site.rng
    front = street.half + _side(street, side).width() + rng.uniform(0.3, 3.0)
    first, last = s - wide / 2, s + wide / 2
    if rng.random() < 0.35:
        _along(site, "fence", street, side, first, last, front, 0.2, (0.5, 1.0))
    out = front + rng.uniform(1.0, 6.0)
    _along(site, "thicket", street, side, first, last, out, 1.0)
    _along(site, "shrubs", street, side, first, last, out - 0.8, 0.5, (0.5, 1.3))
    for _ in range(int(wide / 3)):
        site.plant(
            "tree", *street.at(rng.uniform(first, last), side * (out + rng.uniform(1.0, 16)))[0], 0.9, 1.5, clear=1.0
        )


def _city_lot(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    rng = site.rng
    front = street.half + _side(street, side).width() + 0.1 + (rng.uniform(0.5, 6.0) if rng.random() < 0.5 else 0.0)
    depth, floors = rng.uniform(9, 13), int(rng.integers(2, 6))
    place, heading = street.at(s, side * (front + depth / 2))
    yaw = float(heading) + (0.0 if side > 0 else np.pi)
    use = rng.random()
    if use < 0.84:
        site.put("house", *place, yaw, wide - 0.6, depth - 0.4, size=(round(wide, 1), round(depth, 1), floors))
    elif use < 0.89:
        place, _ = street.at(s, side * (front + 8))
        site.patches.append(Patch(*map(float, place), float(heading), wide, 12.0, Cover.PARKING))
        for k in np.arange(-wide / 2 + 1.5, wide / 2 - 1, 2.7):
            if rng.random() < 0.6:
                site.park(
                    *street.at(s + k, side * (front + 4))[0],
                    float(heading) + np.pi / 2 + rng.normal(0, 0.03),
                    lots=True,
                )
        _along(site, "hedge", street, side, s - wide / 2 + 3, s + wide / 2, front + 15.5)
    else:
        place, _ = street.at(s, side * (front + 9))
        site.patches.append(Patch(*map(float, place), float(heading), wide, 17.0, Cover.GRASS))
        _along(
            site, "fence" if rng.random() < 0.6 else "hedge", street, side, s - wide / 2, s + wide / 2, front + 0.5, 0.3
        )
        for _ in range(rng.integers(4, 9)):
            site.plant(
                "tree",
                *street.at(s + rng.uniform(-wide / 2, wide / 2), side * (front + rng.uniform(2, 16)))[0],
                clear=1.0,
            )
            site.plant(
                "bush",
                *street.at(s + rng.uniform(-wide / 2, wide / 2), side * (front + rng.uniform(1, 16)))[0],
                1.0,
                1.7,
            )
        _along(site, "shrubs", street, side, s - wide / 2, s + wide / 2, front + rng.uniform(5, 16), tall=(0.7, 1.4))
    if rng.random() < 0.35:
        place, heading = street.at(s + rng.uniform(-3, 3), side * (front - 0.6))
        site.put(str(rng.choice(["bin", "cabinet", "planter", "shelter"])), *place, yaw, 1.0, 0.6, lots=False)


def _yard_lot(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    rng = site.rng
    front = street.half + _side(street, side).width() + 0.2
    first, last = s - wide / 2, s + wide / 2
    setback, depth = rng.uniform(8, 22), rng.uniform(14, 26)
    place, heading = street.at(s, side * (front + setback / 2))
    yaw = float(heading) + (0.0 if side > 0 else np.pi)
    cover = (Cover.PARKING, Cover.PAVED, Cover.SIDEWALK, Cover.GRASS, Cover.GRASS)[
        int(rng.choice(5, p=[0.15, 0.02, 0.33, 0.25, 0.25]))
    ]
    site.patches.append(Patch(*map(float, place), float(heading), wide, setback, cover))
    if rng.random() < 0.8:
        place, _ = street.at(s, side * (front + setback + depth / 2))
        size = (round(wide * 0.8, 1), round(depth, 1), int(rng.integers(1, 4)))
        site.put("house", *place, yaw, size[0], size[1], size=size)
    gate = rng.uniform(first + 4, last - 4)
    kind = str(rng.choice(["fence", "hedge", "fence", "none"]))
    if kind != "none":
        for a, b in ((first, gate - 3), (gate + 3, last)):
            _along(site, kind, street, side, a, b, front + 0.4, 0.2)
    if cover == Cover.PARKING:
        for k in np.arange(-wide / 2 + 2, wide / 2 - 2, 2.8):
            if rng.random() < 0.35:
                site.park(*street.at(s + k, side * (front + setback - 4))[0], float(heading) + np.pi / 2, lots=True)
    for _ in range(rng.integers(1, 5)):
        site.plant("tree", *street.at(rng.uniform(first, last), side * (front + rng.uniform(1, 5)))[0], clear=1.0)
    for _ in range(rng.integers(0, 3)):
        place, _ = street.at(rng.uniform(first, last), side * (front + rng.uniform(3, setback)))
        site.put(str(rng.choice(["rubble", "bin", "cabinet", "structure"])), *place, rng.uniform(-3, 3), 1.5, 1.0)


def _open_lot(site: Site, street: Street, side: int, s: float, wide: float) -> None:
    rng = site.rng
    front = street.half + _side(street, side).width() + 0.3
    first, last = s - wide / 2, s + wide / 2
    motorway = street.style.name == "motorway"
    if rng.random() < (0.5 if motorway else 0.18):
        _along(site, "rail", street, side, first, last, front + 0.3, 0.2)
    use = rng.random()
    if use < (0.85 if motorway else 0.93):
        out = front + rng.uniform(0.8, 5.0) + (1.0 if motorway else 0.0)
        _along(site, "thicket", street, side, first, last, out, 1.0)
        _along(site, "shrubs", street, side, first, last, out - 0.7, 0.5, (0.6, 1.2))
        for _ in range(rng.integers(2, 6)):
            site.plant("tree", *street.at(rng.uniform(first, last), side * (out + rng.uniform(1, 12)))[0], clear=1.0)
    elif use < 0.96:
        for _ in range(rng.integers(1, 5)):
            kind = "tree" if rng.random() < 0.7 else "bush"
            site.plant(kind, *street.at(rng.uniform(first, last), side * (front + rng.uniform(2, 22)))[0], clear=1.0)
    elif use < 0.95 and not motorway:
        place, heading = street.at(s, side * (front + rng.uniform(9, 18)))
        size = (round(float(rng.uniform(9, 14)), 1), round(float(rng.uniform(8, 12)), 1), int(rng.integers(1, 3)))
        site.put("house", *place, float(heading) + (0.0 if side > 0 else np.pi), size[0], size[1], size=size)
        _along(site, "fence", street, side, first, last, front + 2.0)
    if rng.random() < 0.4:
        _along(site, "weeds", street, side, first, last, front + rng.uniform(0.5, 2.0), 0.2)
    if rng.random() < 0.03:
        place, heading = street.at(s, side * (front + 1.0))
        site.put("board", *place, float(heading) + (np.pi if side > 0 else 0.0), 0.6, 2.0)
    if rng.random() < 0.12 and not motorway:
        place, heading = street.at(s, side * (front + 2.0))
        site.put("post", *place, float(heading), 0.4, 0.4)


def _median(site: Site, street: Street) -> None:
    """Rails and bushes between two carriageways, and a sign bridge now and then."""
    gap = 2.0
    for s in np.arange(4.0, street.length() - 8, 8.0):
        place, heading = street.at(s, street.half + gap)
        site.items.append(Item("rail", *map(float, place), float(heading), site.variant("rail"), (8.0,)))
        if site.rng.random() < 0.3:
            site.plant("bush", *street.at(s, street.half + gap + 1.2)[0])
    for s in np.arange(site.rng.uniform(20, 160), street.length(), 260.0):
        place, heading = street.at(s, 0.0)
        item = Item("gantry", *map(float, place), float(heading), site.variant("gantry"), (2 * street.half + 3.0,))
        site.items.append(replace(item, yaw=item.yaw))
