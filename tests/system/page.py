"""A page of the docs, followed word for word: its commands, as a user of the page gives them."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.system.hosts import Host


class Page:
    """The `bash` blocks of a page, by section; each is taken once."""

    def __init__(self, path: Path) -> None:
        self._blocks: dict[str, list[str]] = {}
        for section in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]:
            title = section.partition("\n")[0]
            self._blocks[title] = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)

    def take(self, title: str) -> str:
        """Return the next block of a section."""
        return self._blocks[title].pop(0)

    @property
    def left(self) -> list[str]:
        """The blocks that nobody has taken."""
        return [block for blocks in self._blocks.values() for block in blocks]


class Terminal:
    """A terminal of a machine, in the checkout's folder; what is exported there holds for what follows."""

    def __init__(self, host: Host, exports: str = "") -> None:
        self._host = host
        self.exports = exports

    def run(self, block: str, *, timeout_s: float = 120) -> str:
        """Give the commands of a block, and return what they print; raise AssertionError if one fails."""
        printed = self._host.run(self._script(block), timeout_s=timeout_s)
        self.exports += "".join(line + "\n" for line in block.splitlines() if line.startswith("export "))
        return printed

    def start(self, block: str, log: Path) -> "subprocess.Popen[bytes]":
        """Give the commands of a block that go on; what they print goes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                self._host.command(self._script(block)), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def _script(self, block: str) -> str:
        # What goes to a terminal does not wait for more.
        return f"cd ~/ftcl-study && set -e\nexport PYTHONUNBUFFERED=1\n{self.exports}{block}"


def edit(path: Path, changes: Mapping[str, str]) -> None:
    """Replace each text that a file must hold exactly once."""
    text = path.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{path} has {text.count(old)} times: {old}"
        text = text.replace(old, new)
    path.write_text(text)
