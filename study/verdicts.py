"""What is wrong with a machine of a cluster, judged from what study.inspection saw there. Plain decisions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Level = Literal["error", "warning"]

# What a difference in changes numbers, or cannot work at all. Anything else is a warning.
_DECISIVE: Final = ("python", "ray", "torch")
_CLOCK_WARNING_S, _CLOCK_ERROR_S = 2.0, 300.0  # object stores refuse requests after 15 minutes
_CACHE_WARNING_BYTES: Final = 1 << 30
_SHIP: Final = "bring this checkout there (ray up does), and install it as here (deploy/node.sh install)"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    level: Level
    check: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.check}: {self.found}; {self.fix}"


@dataclass(frozen=True)
class Place:
    """A machine, or the cluster as a whole: what it is, and what is wrong there."""

    name: str
    facts: str
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> list[Finding]:
        """Return what prevents a study."""
        return [finding for finding in self.findings if finding.level == "error"]


@dataclass(frozen=True)
class Report:
    """All places that were looked at."""

    places: tuple[Place, ...]

    @property
    def healthy(self) -> bool:
        """Whether a study can run; there may be warnings."""
        return not any(place.errors for place in self.places)

    def render(self) -> RenderableType:
        """Return the table: a line for each place that is well, and what to do for each that is not."""
        table = Table(box=None, padding=(0, 2, 0, 0), title=None, show_edge=False, header_style="dim")
        table.add_column("where", no_wrap=True)
        table.add_column("check", no_wrap=True)
        table.add_column("found, and → what to do", overflow="fold")
        for place in self.places:
            if not place.findings:
                table.add_row(Text(place.name), Text("all well", "green"), Text(place.facts))
            for number, finding in enumerate(place.findings):
                style = "bold red" if finding.level == "error" else "yellow"
                found = Text.assemble(finding.found, "\n", ("→ ", style), finding.fix)
                name = "" if number else place.name
                mark = "✗" if finding.level == "error" else "!"
                table.add_row(Text(name, style), Text(f"{mark} {finding.check}", style), found)
        return Group(table, Text(), self._sum())

    def _sum(self) -> Text:
        errors = sum(len(place.errors) for place in self.places)
        warnings = sum(len(place.findings) for place in self.places) - errors
        if not errors and not warnings:
            return Text("all is well", "green")
        counts = [
            f"{count} {name}{'' if count == 1 else 's'}"
            for count, name in ((errors, "error"), (warnings, "warning"))
            if count
        ]
        end = "mend the errors before a study" if errors else "a study can run"
        return Text(f"{' and '.join(counts)}: {end}", "bold red" if errors else "yellow")


def judge_software(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what `look` saw on another machine with what it saw on the driver's."""
    yield from _judge_source(ours["source"], theirs["source"])
    unlike: dict[Level, list[str]] = {"error": [], "warning": []}
    for name, version in ours["versions"].items():
        there = theirs["versions"].get(name)
        if version is None or _public(version) == _public(there):
            continue
        level: Level = "error" if name in _DECISIVE or there is None else "warning"
        unlike[level].append(f"{name} {there or 'is missing'}, here {version}")
    for level, lines in unlike.items():
        if lines:
            fix = "install what constraints.txt says on every machine (deploy/node.sh install)"
            yield Finding(level, "versions", "; ".join(lines), fix)
    if theirs["source"] and ours["native"]:
        yield from judge_native(theirs["native"])


def judge_native(is_there: bool) -> Iterator[Finding]:
    """Judge whether a machine has the library for alignments, without which other backends compute them."""
    if not is_there:
        yield Finding(
            "warning",
            "alignment",
            "the native library for alignments is missing: slower, and other last digits",
            "install a C compiler there, then `pip install -e .`",
        )


def _judge_source(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[Finding]:
    if not theirs:
        yield Finding("error", "source", "this project is not installed there", _SHIP)
        return
    # An installation has no sources in C.
    lacking = [name for name in ours.keys() - theirs.keys() if _is_needed(name)]
    left = sorted(name for name in theirs.keys() - ours.keys() if _is_needed(name))
    changed = [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    differing = sorted([*lacking, *changed])
    code = [name for name in differing if not name.startswith("search_spaces/")]
    if code:
        yield Finding("error", "source", f"other code than here: {_some(code)}", _SHIP)
    elif differing:
        yield Finding("warning", "source", f"other search spaces than here: {_some(differing)}", _SHIP)
    if left:
        # Python takes the package a/b/ rather than the module a/b.py.
        hides = any(PurePosixPath(name).name == "__init__.py" and _module(name) in ours for name in left)
        yield Finding(
            "error" if hides else "warning",
            "source",
            f"left from earlier code: {_some(left)}",
            "delete it there, since ray up deletes nothing",
        )


def _is_needed(name: str) -> bool:
    return PurePosixPath(name).suffix in (".py", ".yaml")


def _module(name: str) -> str:
    """Return the module that a package, given by its __init__.py, would hide."""
    return f"{PurePosixPath(name).parent}.py"


def judge_gpus(seen: Mapping[str, Any], told: float) -> Iterator[Finding]:
    """Compare the GPUs that torch sees with those that Ray was told of, and judge whether they can align."""
    if seen["failed"]:
        yield Finding(
            "error",
            "GPUs",
            f"an alignment fails on a GPU: {seen['failed']}",
            "install a C compiler and Python's headers there (gcc, python3-dev), which Triton needs; if both "
            "are there, look at nvidia-smi",
        )
    count = len(seen["names"])
    if count < told:
        trouble = f" ({seen['trouble']})" if seen["trouble"] else ""
        yield Finding(
            "error",
            "GPUs",
            f"Ray counts {told:g}, torch sees {count}{trouble}",
            "look at nvidia-smi there; install a torch for its driver, or correct --num-gpus of ray start",
        )
    elif count > told:
        yield Finding(
            "warning",
            "GPUs",
            f"torch sees {count}, Ray counts {told:g}: the others stay idle",
            f"start Ray there with --num-gpus {count}",
        )


def judge_clock(ahead_s: float, uncertainty_s: float) -> Iterator[Finding]:
    """Judge how far a clock is off, beyond what cannot be told."""
    off_s = abs(ahead_s) - uncertainty_s
    if off_s > _CLOCK_WARNING_S:
        direction = "ahead" if ahead_s > 0 else "behind"
        yield Finding(
            "error" if off_s > _CLOCK_ERROR_S else "warning",
            "clock",
            f"{abs(ahead_s):.1f} s {direction} (± {uncertainty_s:.1g} s): object storage may refuse it",
            "keep its time by NTP (chrony, systemd-timesyncd)",
        )


def judge_cache(cache: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge the disk that data are built on and copied to."""
    fix = "free some space, or set XDG_CACHE_HOME there before ray start"
    if not cache["writable"]:
        yield Finding("error", "disk", f"the cache {cache['folder']} cannot be written", fix)
    elif cache["free"] < _CACHE_WARNING_BYTES:
        yield Finding("warning", "disk", f"{show_bytes(cache['free'])} free for {cache['folder']}", fix)


def judge_storage(location: str, trouble: str, is_seen: bool, sees: bool) -> Iterator[Finding]:
    """Judge a place for results: whether it was written, and whether each side sees what the other wrote."""
    if trouble:
        fix = "mount it there, give its user the right to write, or set the keys before ray start"
        yield Finding("error", "storage", f"cannot write to {location}: {trouble}", fix)
    elif not (is_seen and sees):
        yield Finding(
            "error",
            "storage",
            f"{location} is another folder there: what one machine writes the other does not see",
            "share it (NFS), at the same path everywhere, or give --out on object storage such as s3://",
        )


def judge_hanging_storage(folder: str, reason: str) -> Iterator[Finding]:
    """Tell of a place for results that neither works nor fails, as a mount whose server is gone."""
    if "://" in folder:
        what, fix = "the storage", "look at the way from there to it: network, proxy, firewall"
    else:
        what, fix = "the mount", "look at it there (`df` hangs too), and mount it again"
    left = f"a file of this question may be left in {folder}"
    yield Finding("error", "storage", f"{what} does not answer there ({reason}); {left}", fix)


def show_bytes(count: int) -> str:
    """Return a size in GB."""
    return f"{count / 1e9:.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"


def _public(version: str | None) -> str | None:
    """Return a version without the label of its build: 2.6.0+cu126 and 2.6.0+cpu are one."""
    return None if version is None else version.partition("+")[0]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:2])
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more files"
