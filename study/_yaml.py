"""YAML as plain data plus the line of every key, so that each mistake can name its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

KeyPath = tuple[str | int, ...]

MAX_VALUES = 10_000
# YAML 1.1 wants a point and a sign, as in 1.0e+3, and silently reads anything less as text.
_NUMBER_READ_AS_TEXT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


class YamlError(ValueError):
    """A text that is not usable YAML: `line` (from 1), `path` of the keys around it, and what is wrong."""

    def __init__(self, line: int, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.line, self.path = line, path


@dataclass(frozen=True)
class Document:
    """`data`: mappings, tuples and scalars; `lines`: the line (from 1) on which each key or item starts."""

    data: object
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest key around it that is written in the text."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def parse(text: str) -> Document:
    """Read one document as `yaml.safe_load` does, with lists as tuples.

    Raises `YamlError` where safe_load errs, and on what it would let pass: a repeated key, a key that is not
    text, a merge key, a number such as 1e-3 that YAML takes for text, dates, aliases that contain themselves
    or grow beyond 10 000 values.
    """
    lines: dict[KeyPath, int] = {(): 1}
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        data = None if root is None else _Reader(loader, lines).value(root, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, (), f"not YAML: forbidden character {chr(error.character)!r}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 1, (), f"not YAML: {error.problem}") from None
    except RecursionError:
        raise YamlError(1, (), "nested too deeply") from None
    return Document(data, lines)


class _Reader:
    """Turns nodes into data, remembering lines; an alias counts at each use, as a copy would."""

    def __init__(self, loader: yaml.SafeLoader, lines: dict[KeyPath, int]) -> None:
        self.loader, self.lines = loader, lines
        self.open: set[yaml.Node] = set()
        self.num_values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> object:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise _error(node, path, f"more than {MAX_VALUES} values once its aliases are expanded")
        if node in self.open:
            raise _error(node, path, "an alias (*) that contains itself")
        self.open.add(node)
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return dict(self._items(node, path))
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                return tuple(self._item(item, (*path, i)) for i, item in enumerate(node.value))
            raise _error(node, path, f"the tag {node.tag} is not read here")
        finally:
            self.open.remove(node)

    def _item(self, node: yaml.Node, path: KeyPath) -> object:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, object]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _error(key_node, path, "merge keys (<<) are not read here; write the keys out")
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                name = key_node.value if isinstance(key_node, yaml.ScalarNode) else "in brackets"
                raise _error(key_node, path, f"the key {name} is not text for YAML; put it in quotes")
            key, key_path = key_node.value, (*path, key_node.value)
            if key in first_lines:
                raise _error(key_node, key_path, f"written twice, first on line {first_lines[key]}; keep one")
            first_lines[key] = self.lines[key_path] = key_node.start_mark.line + 1
            yield key, self.value(value_node, key_path)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            value = self.loader.construct_object(node)
        except ValueError as error:  # such as the date 2024-13-41
            raise _error(node, path, f"{node.value}: {error}") from None
        if not isinstance(value, bool | int | float | str | None):
            raise _error(node, path, f"YAML reads {node.value} as a {type(value).__name__}; put it in quotes")
        if isinstance(value, str) and node.style is None and _NUMBER_READ_AS_TEXT.fullmatch(value):
            mantissa, exponent = re.split("[eE]", value)
            mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
            exponent = exponent if exponent[0] in "+-" else f"+{exponent}"
            raise _error(node, path, f"YAML reads {value} as text; write {mantissa}e{exponent}")
        return value


def _error(node: yaml.Node, path: KeyPath, message: str) -> YamlError:
    return YamlError(node.start_mark.line + 1, path, message)
