"""Schedules: problems and methods in push mode, fed by the user's own training loop."""

from .history import History as History
from .pushing import online as online
from .schedule import Schedule as Schedule
from .schedule import Settings as Settings
from .triggers import Every as Every
