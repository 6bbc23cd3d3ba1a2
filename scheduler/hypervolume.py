"""Hypervolume: how much of the space up to a reference a front of points dominates.

The measure of Zitzler and Thiele (IEEE Trans. Evolutionary Computation 3(4), 1999); all figures are made
least. Exact, by slices along the last figure: for a few tens of points and up to three figures it is instant.
"""

from collections.abc import Sequence

Point = Sequence[float]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Give the volume of what is not better than some point and better than the reference in all figures.

    Points that are worse than the reference in one of them add nothing.
    """
    if any(len(point) != len(reference) for point in points):
        raise ValueError(f"points have as many figures as the reference, {len(reference)}")
    inside = [tuple(p) for p in points if all(a < b for a, b in zip(p, reference, strict=True))]
    return _volume(sorted(set(inside), key=lambda point: point[::-1]), tuple(reference))


def dominates(one: Point, other: Point) -> bool:
    """Whether no figure of `one` is more than that of `other`, and one is less."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def nondominated(points: Sequence[Point]) -> list[int]:
    """The places of the points that no other dominates; of equal ones the first."""
    return [
        place
        for place, point in enumerate(points)
        if not any(dominates(other, point) for other in points)
        and not any(tuple(other) == tuple(point) for other in points[:place])
    ]


def _volume(points: Sequence[Point], reference: Point) -> float:
    """Of points by their last figure, all better than the reference."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(point[0] for point in points)
    ends = [point[-1] for point in points[1:]] + [reference[-1]]
    volume = 0.0
    for place, (point, end) in enumerate(zip(points, ends, strict=True)):
        if end > point[-1]:
            slice_ = sorted({each[:-1] for each in points[: place + 1]}, key=lambda each: each[::-1])
            volume += (end - point[-1]) * _volume(slice_, reference[:-1])
    return volume
