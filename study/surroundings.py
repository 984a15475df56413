"""What is unlike the run on record when a trial runs again: versions, source, machine, device, threads."""

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from ftcl.training.device import choose_device
from study.manifest import environment, source_digest
from study.recorded import Recorded, Records


def find_changes(records: Records, recorded: Recorded) -> Iterator[str]:
    """Say in words what is unlike when the trial was recorded."""
    manifest, now = records.manifest, environment()
    launches = records.launches_of(recorded)
    then = launches[-1]
    yield from _changed("version of the recipe", manifest["recipe"]["version"], records.recipe.version)
    for name, version in now["versions"].items():
        yield from _changed(name, then["versions"].get(name), version)
    alignment = then.get("alignment") or {}  # None in a record of an earlier release
    if alignment:
        yield from _changed("alignment on the CPU", _shown(alignment), _shown(now["alignment"]))
    git_then, git_now = manifest["git"] or {}, now["git"] or {}
    yield from _changed("git revision", then["revision"], git_now.get("revision"))
    if then.get("source") is not None:  # None in a record of an earlier release
        yield from _changed("digest of the source (ftcl and study)", then["source"], source_digest())
    if git_then and git_now and git_then["diff"] != git_now["diff"]:
        yield "uncommitted changes of the source are others than when the study was begun"
    yield from _changed("host", recorded.row["host"] or socket.gethostname(), socket.gethostname())
    for name in ("machine", "cpu"):
        yield from _changed(name, manifest["hardware"][name], now["hardware"][name])
    device = choose_device().type
    yield from _changed("device", recorded.row["device"] or device, device)
    threads = list(dict.fromkeys(launch["num_threads"] for launch in launches))
    if len(threads) > 1:
        yield f"threads: {' then '.join(map(str, threads))} on record, {records.num_threads_of(recorded)} now"
    if device != "cpu" and not manifest["deterministic"]:
        yield f"the study is not --deterministic, so equal runs may differ on {device}"


def _shown(alignment: Mapping[str, Any]) -> str:
    default = alignment["backends"][0]
    return f"{default} {alignment['native']}" if default == "native" else f"{default}"


def _changed(what: str, then: Any, now: Any) -> Iterator[str]:
    if then != now:
        yield f"{what}: {then} on record, {now} now"
