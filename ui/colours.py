"""One colour a model on every page, told apart by colour-blind readers and on light and dark grounds."""

from collections.abc import Iterable

# Okabe and Ito (2008), without black and yellow, which one of the grounds swallows.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SHADES = ("", "#5B8DB8", "#B98A3C", "#5FA88F", "#A67F97", "#8FB6CC", "#B0764C")
IDLE = "#9AA0A6"
LIMIT = "#D55E00"


def colours(names: Iterable[str]) -> dict[str, str]:
    """Name → colour, by the order of the names; past twelve they come round again."""
    every = (*PALETTE, *SHADES[1:])
    return {name: every[i % len(every)] for i, name in enumerate(dict.fromkeys(names))}
