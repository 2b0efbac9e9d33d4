"""Splits: which documents, and which stretches of ready tokens, are for training, for validation and for the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from mixopt.errors import InputError

PARTS = ("train", "validation", "test")
GOLDEN = (5**0.5 - 1) / 2
ROUND = 2**20  # tokens; a longer row of ready tokens gives to each part in several places
ROUNDS = 16


@final
@dataclass(frozen=True)
class Split:
    """The shares of each domain that are kept for ``validation`` and for the ``test``; the rest is for training.

    >>> [Split(validation=0.25, test=0).part(number) for number in range(5)]
    ['train', 'validation', 'train', 'train', 'validation']
    >>> Split(validation=0.1, test=0.1).stretches(100)
    {'train': [(0, 80)], 'validation': [(80, 90)], 'test': [(90, 100)]}

    Raises:
        InputError: shares that are negative, or that are more than the whole.
    """

    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test <= 1):
            raise InputError(
                f"the shares validation={self.validation:g} and test={self.test:g} do not fit; both are >= 0 and their sum is at most 1"
            )

    @property
    def several(self) -> bool:
        """Whether more than one part gets anything."""
        return 0 < self.validation < 1 or 0 < self.test < 1

    def part(self, number: int) -> str:
        """The part of a domain's document ``number``, counted from 0.

        The fractional parts of (number + 1) x golden ratio fill [0, 1) more evenly than chance and without a period, so that every
        stretch of documents, however short, gives each part its share to within about one document.
        """
        place = (number + 1) * GOLDEN % 1
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"

    def stretches(self, size: int) -> dict[str, list[tuple[int, int]]]:
        """The stretches (start, stop) of each part in a row of ``size`` tokens, in up to 16 rounds of training, validation and test."""
        rounds = max(1, min(ROUNDS, size // ROUND))
        found: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
        for i in range(rounds):
            start, stop = size * i // rounds, size * (i + 1) // rounds
            test = stop - round((stop - start) * self.test)
            validation = max(start, test - round((stop - start) * self.validation))
            for part, low, high in (("train", start, validation), ("validation", validation, test), ("test", test, stop)):
                if low < high:
                    found[part].append((low, high))
        return found
