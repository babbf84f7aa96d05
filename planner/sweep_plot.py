"""A sweep as one SVG picture: cost over the first field that varies in numbers, one line for each other choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from planner.sweep import Row, Sweep

WIDTH, HEIGHT = 900, 480
LEFT, RIGHT, TOP, BOTTOM = 80, 230, 40, 60
# Okabe and Ito's palette, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MOST_LINES = len(COLOURS)
TICKS = 6
NAME_LENGTH = 30

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The ranges of the axes, and where their values stand in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, point: Point) -> Point:
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def sweep_plot(sweep: Sweep, rows: Sequence[Row]) -> str:
    """The picture as SVG text. Variants without a plan leave gaps; lines past the seventh are only counted."""
    path = _numeric_path(sweep, rows)
    lines = _lines(sweep, rows, path)
    points = [point for line in lines.values() for point in line]
    title = f"{sweep.loaded.spec.name}: cost of {len(rows)} variants"
    if not points:
        return _svg([_text(LEFT, TOP + 20, f"{title}: none has a plan")])
    frame = _Frame(x=_range([x for x, _ in points]), y=(0.0, _range([0.0, *(y for _, y in points)])[1]))
    parts = [_text(LEFT, TOP - 16, title, "font-weight='bold'"), *_axes(frame, path)]
    for number, (name, line) in enumerate(list(lines.items())[:MOST_LINES]):
        parts += _line(frame, line, COLOURS[number], number, name)
    if len(lines) > MOST_LINES:
        parts.append(_legend(MOST_LINES, f"and {len(lines) - MOST_LINES} more", "#666"))
    return _svg(parts)


def _numeric_path(sweep: Sweep, rows: Sequence[Row]) -> str:
    """The first field whose values are all numbers (or factors), else the number of the variant."""
    for path in sweep.paths:
        if all(_number(row[path]) is not None for row in rows):
            return path
    return "variant"


def _number(value: object) -> float | None:
    text = str(value).removeprefix("x")
    if isinstance(value, bool):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _lines(sweep: Sweep, rows: Sequence[Row], path: str) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    others = [p for p in sweep.paths if p != path] if path != "variant" else []
    for row in rows:
        x = _number(row[path])
        if x is not None and row.get("cost_usd_per_hour") is not None:
            name = ", ".join(f"{_short(p)}={row[p]}" for p in others) or "cost"
            found.setdefault(name, []).append((x, row["cost_usd_per_hour"]))
    return {name: sorted(points) for name, points in found.items()}


def _short(path: str) -> str:
    parts = path.split(".")
    return ".".join(parts[-1:] if len(parts) < 3 else (parts[1], parts[-1]))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Round ends that hold all values, never of no width."""
    low, high = min(values), max(values)
    step = _step(low, high)
    return floor(low / step) * step, max(ceil(high / step) * step, floor(low / step) * step + step)


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten that gives about six ticks."""
    raw = (high - low or abs(high) or 1.0) / TICKS
    power = 10.0 ** floor(log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)


def _ticks(ends: tuple[float, float]) -> list[float]:
    step = _step(*ends)
    return [ends[0] + i * step for i in range(int((ends[1] - ends[0]) / step + 1.001))]


def _axes(frame: _Frame, path: str) -> list[str]:
    parts = []
    for x in _ticks(frame.x):
        at, floor_y = frame.at((x, frame.y[0]))
        parts.append(_text(at, floor_y + 20, f"{x:,g}", "text-anchor='middle'"))
    for y in _ticks(frame.y):
        left, at = frame.at((frame.x[0], y))
        right, _ = frame.at((frame.x[1], y))
        parts.append(f"<line x1='{left:.1f}' y1='{at:.1f}' x2='{right:.1f}' y2='{at:.1f}' stroke='#ddd'/>")
        parts.append(_text(left - 8, at + 4, f"{y:,g}", "text-anchor='end'"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = "number of the variant" if path == "variant" else path
    return [
        *parts,
        _text(middle, HEIGHT - 14, label, "text-anchor='middle'"),
        _text(16, TOP - 16, "USD/h"),
    ]


def _line(frame: _Frame, points: Sequence[Point], colour: str, number: int, name: str) -> list[str]:
    at = [frame.at(point) for point in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return [
        f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>",
        *(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'><title>{px:g}: {py:,.2f} USD/h</title></circle>"
            for (x, y), (px, py) in zip(at, points, strict=True)
        ),
        _legend(number, name, colour),
    ]


def _legend(number: int, name: str, colour: str) -> str:
    shown = name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
    return _text(WIDTH - RIGHT + 16, TOP + 16 + 20 * number, shown, f"fill='{colour}'")


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(text)}</text>"


def _svg(parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
        " font-family='sans-serif' font-size='12'>"
    )
    return "\n".join([head, f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>", *parts, "</svg>"]) + "\n"
