"""What is measured, a subject each. A suite takes rivals and gives a document that is written to a file of its own."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    name: str
    run: Callable[[list, "Effort"], dict]


@dataclass(frozen=True)
class Effort:
    """How much is measured. Quick is for a look, not for a table."""

    rounds: int = 5
    quick: bool = False

    def scaled(self, number, least=1):
        return max(least, number // 4) if self.quick else number
