"""Errors of the profile layer. `PlanningError` is the root of the program's one error tree."""


class PlanningError(Exception):
    """Something the user can act on: the message is one sentence and, where there is one, the fix."""


class ProfileError(PlanningError):
    """A GPU, model, engine or measured table is unknown, malformed or out of range."""
