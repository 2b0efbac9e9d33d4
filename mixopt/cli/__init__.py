"""The ``mixopt`` command: one module for each subject, put together here."""

from __future__ import annotations

from .common import application
from .demo import demo

app = application()
app.command()(demo)

__all__ = ["app"]
