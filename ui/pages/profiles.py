def page() -> None:
    """Draw the page."""
