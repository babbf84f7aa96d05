"""What holds for all tests."""

from hypothesis import settings

# Busy machines are slow: how long one example takes says nothing.
settings.register_profile("muxplan", deadline=None)
settings.load_profile("muxplan")
