"""Words around numbers and names, the same in every sentence."""

import math
from collections.abc import Iterable, Sequence


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return the form of a word for so many: plural(2, "seed"), plural(2, "is", "are")."""
    return one if number == 1 else many or f"{one}s"


def count(number: int, noun: str) -> str:
    """Return "1 seed" or "2 seeds"."""
    return f"{number} {plural(number, noun)}"


def count_range(counts: Iterable[int]) -> str:
    """Return "8", or "6 to 8"."""
    known = [int(number) for number in counts]
    return str(known[0]) if min(known) == max(known) else f"{min(known)} to {max(known)}"


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """Return "seed 3" or "seeds 3, 4"."""
    return f"{plural(len(numbers), noun)} {', '.join(map(str, numbers))}"


def join(names: Sequence[str]) -> str:
    """Return names as they stand in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def setting(value: object) -> str:
    """Return a setting as a reader wants to see it."""
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
