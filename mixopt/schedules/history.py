"""The course of a schedule's weights: one row a move, thinned where there are very many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from mixopt.errors import MissingExtraError

MOST = 4096


@final
class History:
    """The weights after each move: ``steps`` [n], ``tokens`` [n] and ``weights`` [n, k], the start first.

    Beyond 4,096 rows every second one is left out, and from then on only every second, fourth, ... move is kept, so that a long run's
    state stays small.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self._rows: list[tuple[int, float, np.ndarray]] = []
        self._stride, self._count = 1, 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def steps(self) -> np.ndarray:
        """The step of each row [n]."""
        return np.array([step for step, _, _ in self._rows], dtype=int)

    @property
    def tokens(self) -> np.ndarray:
        """The tokens read by each row [n], where they were told."""
        return np.array([tokens for _, tokens, _ in self._rows])

    @property
    def weights(self) -> np.ndarray:
        """The weights of each row [n, k]."""
        return np.array([w for _, _, w in self._rows]).reshape(-1, len(self.names))

    def frame(self) -> Any:
        """A pandas frame: step, tokens and one column a domain; raises MissingExtraError without pandas."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "data", "A frame of a schedule's history") from None
        return pandas.DataFrame({"step": self.steps, "tokens": self.tokens, **dict(zip(self.names, self.weights.T, strict=True))})

    def add(self, step: int, tokens: float, weights: np.ndarray) -> None:
        """One more move."""
        if self._count % self._stride == 0:
            self._rows.append((step, tokens, weights.copy()))
            if len(self._rows) > MOST:
                self._rows, self._stride = self._rows[::2], 2 * self._stride
        self._count += 1

    def state(self) -> dict[str, Any]:
        """What a saved schedule holds of it."""
        return {"steps": self.steps, "tokens": self.tokens, "weights": self.weights, "stride": self._stride, "count": self._count}

    @staticmethod
    def of(names: Sequence[str], state: Mapping[str, Any]) -> History:
        """A history again from its state."""
        made = History(names)
        made._stride, made._count = int(state["stride"]), int(state["count"])
        rows = np.asarray(state["weights"], dtype=float).reshape(-1, len(made.names))
        made._rows = [(int(s), float(t), w.copy()) for s, t, w in zip(state["steps"], state["tokens"], rows, strict=True)]
        return made
