"""Unit factors. Inside the program everything is in SI base units: seconds, bytes, operations."""

KIB = 1024
MIB = 1024**2
GIB = 1024**3
MS_PER_S = 1e3


def s_from_ms(milliseconds: float) -> float:
    """Seconds from milliseconds."""
    return milliseconds / MS_PER_S


def ms_from_s(seconds: float) -> float:
    """Milliseconds from seconds."""
    return seconds * MS_PER_S
