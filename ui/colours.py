"""One colour a model on every page, told apart by colour-blind readers and on light and dark grounds."""

from collections.abc import Iterable
from string import ascii_uppercase

# Okabe and Ito (2008), without black and yellow, which one of the grounds swallows.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SHADES = ("", "#5B8DB8", "#B98A3C", "#5FA88F", "#A67F97", "#8FB6CC", "#B0764C")
IDLE = "#9AA0A6"
LIMIT = "#D55E00"


def colours(names: Iterable[str]) -> dict[str, str]:
    """Name → colour, by the order of the names; past twelve they come round again (`letters` tells them apart)."""
    every = (*PALETTE, *SHADES[1:])
    return {name: every[i % len(every)] for i, name in enumerate(dict.fromkeys(names))}


def letters(names: Iterable[str]) -> dict[str, str]:
    """Name → A, B, … Z, AA, AB, …, by the order of the names: beyond six, colours alone are not told apart by all."""
    every = ascii_uppercase
    one_or_two = (*every, *(first + second for first in every for second in every))
    return {name: one_or_two[i % len(one_or_two)] for i, name in enumerate(dict.fromkeys(names))}


def ink(colour: str) -> str:
    """Black or white, whichever has the larger contrast on the colour (relative luminance as in WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance + 0.05 > (1.05 * 0.05) ** 0.5 else "white"
