"""What goes wrong around a running engine."""

from profiles.errors import PlanningError


class EngineError(PlanningError):
    """An engine could not be started, or died; the message says which, why, and where its log is."""


class EngineEnvironmentError(PlanningError):
    """There is no engine environment; the message says how to make one."""
