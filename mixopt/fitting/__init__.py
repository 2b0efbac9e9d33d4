"""From tables of proxy runs to a mixture: ``recommend``, scores of other mixtures, and Olmix's fit configurations."""

from __future__ import annotations

from .fitted import Fitted as Fitted
from .objective import Objective as Objective
from .recommend import Recommendation as Recommendation
from .recommend import recommend as recommend

__all__ = ["Fitted", "Objective", "Recommendation", "recommend"]
