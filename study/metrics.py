"""Metrics of an epoch, held compactly: a long study has hundreds of thousands of epochs in memory."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence


class Columns:
    """Names of metrics, shared by all epochs that have the same."""

    __slots__ = ("names", "places")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.places = {name: place for place, name in enumerate(self.names)}

    def take(self, values: Iterable[float]) -> "Metrics":
        """Return the metrics that these values are, in the order of the names."""
        return Metrics(self, array("d", values))


class Metrics(Mapping[str, float]):
    """A read-only mapping from metric to value: a fifth of the memory of a dict."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Columns, values: "array[float]") -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, name: str) -> float:
        return self._values[self._columns.places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns.names)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))
