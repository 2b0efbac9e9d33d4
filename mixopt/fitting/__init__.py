"""From tables of proxy runs to a mixture: ``recommend``, scores of other mixtures, and Olmix's fit configurations."""

from __future__ import annotations

from .fitted import Fitted as Fitted
from .objective import Objective as Objective
from .recommend import Recommendation as Recommendation
from .recommend import recommend as recommend
from .request import Request as Request
from .score import Score as Score
from .score import score as score

__all__ = ["Fitted", "Objective", "Recommendation", "Request", "Score", "recommend", "score"]
