"""Plans strikes from a seed, spreads them over a study's life, and keeps the study going."""

import datetime
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.chaos.strikes import KILLS, OTHERS, STRIKES, World
from benchmarks.chaos.watch import Held, read_held

_LAST: Final = 0.75  # of the study: where the last strike is due; long strikes let it get ahead of the plan
_MAX_DELAY_S: Final = 0.6  # about an epoch: strikes land anywhere in it
_STUCK_S: Final = 150.0
_MAX_RESTARTS: Final = 5  # after ends that no strike explains


@dataclass(frozen=True)
class Planned:
    """A strike that is due when so much of the study is on record."""

    kind: str
    at: float  # fraction of the epochs of the undisturbed study
    delay_s: float
    seed: int  # of its own choices, so that they do not depend on timing


@dataclass(frozen=True)
class Struck:
    """A strike that hit."""

    number: int
    kind: str
    at: str  # UTC, ISO 8601
    target: str
    held: Held  # by the ledger, just before
    seconds: float | None = None  # until the next epoch was on record; None: the next strike came before


class ChaosError(Exception):
    """The study cannot be brought to its end."""


def plan_strikes(kills: int, seed: int, *, full_disk: bool) -> list[Planned]:
    """Return so many kills, and the other strikes, in the order in which they are due."""
    rng = random.Random(seed)
    kinds = share_out(kills, {kind: weight for kind, (weight, _) in KILLS.items()})
    others = {kind: weight for kind, (weight, _) in OTHERS.items() if full_disk or kind != "full disk"}
    kinds += share_out(len(others) * -(-kills // 25), others)
    rng.shuffle(kinds)
    places = [_LAST * (index + rng.random()) / len(kinds) for index in range(len(kinds))]
    return [
        Planned(kind, place, rng.uniform(0, _MAX_DELAY_S), rng.getrandbits(32))
        for kind, place in zip(kinds, places, strict=True)
    ]


def share_out(total: int, weights: Mapping[str, int]) -> list[str]:
    """Return `total` names in proportion to their weights; one of each, as long as there are enough."""
    counts = dict.fromkeys(list(weights)[:total], 1)
    while sum(counts.values()) < total:
        counts[max(counts, key=lambda name: weights[name] / (counts[name] + 1))] += 1
    return [name for name, count in counts.items() for _ in range(count)]


def disturb(
    world: World,
    plan: list[Planned],
    epochs: int,
    deadline_s: float,
    log: list[Struck],
    say: Callable[[str], None],
) -> None:
    """Run the study to its end through the planned strikes; `epochs` is what the undisturbed one recorded.

    Strikes that hit are appended to `log`. Raises ChaosError if the study cannot be brought to its end before
    `deadline_s` (monotonic).
    """
    tender = _Tender(world, deadline_s, say)
    world.driver.start()
    for planned in plan:
        while True:
            held = tender.look(log)
            if world.driver.exit_code == 0:
                world.problems.append(f"the study ended before {len(plan) - len(log)} of the strikes")
                return
            if held.epochs >= planned.at * epochs and held.running:
                time.sleep(planned.delay_s)
                at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                started_s = time.monotonic()
                target = STRIKES[planned.kind](world, random.Random(planned.seed))
                if target is not None:
                    break
        log.append(Struck(len(log) + 1, planned.kind, at, target, held))
        tender.has_struck(started_s)
        say(f"{at[11:19]} {len(log):3}/{len(plan)} {planned.kind:<12} {target}  [{held}]")
    while world.driver.exit_code != 0:
        tender.look(log)
    if plan:
        # Once more, on a finished study: it has nothing to do, and must leave everything as it is.
        world.driver.start()
        if (code := world.driver.wait(_STUCK_S)) != 0:
            world.problems.append(f"the command on the finished study ended with {code}")


class _Tender:
    """Looks at the study now and then, and starts the driver again if it ended for no reason."""

    def __init__(self, world: World, deadline_s: float, say: Callable[[str], None]) -> None:
        self._world = world
        self._deadline_s = deadline_s
        self._say = say
        self._last: Held | None = None
        self._changed_s = time.monotonic()
        self._restarts = 0
        self._struck: tuple[float, int] | None = None  # when, and the epochs on record thereafter

    def has_struck(self, started_s: float) -> None:
        """Take note of a strike, to find out when the study is at work again."""
        self._struck = started_s, read_held(self._world.out).epochs

    def look(self, log: list[Struck]) -> Held:
        """Return what the ledger holds, after a short wait; complete the last entry of the log."""
        world = self._world
        time.sleep(0.25)
        held, now_s = read_held(world.out), time.monotonic()
        if held != self._last:
            self._last, self._changed_s = held, now_s
        if self._struck is not None and held.epochs > self._struck[1]:
            log[-1] = replace(log[-1], seconds=now_s - self._struck[0])
            self._struck = None
        if now_s > self._deadline_s:
            raise ChaosError(f"out of time, with {held}")
        if now_s - self._changed_s > _STUCK_S:
            raise ChaosError(f"stuck for {_STUCK_S:.0f} s, with {held}")
        if world.driver.exit_code not in (None, 0):
            ended = f"launch {world.driver.launches} ended by itself with {world.driver.exit_code}"
            self._say(f"{ended}: {_tail(world)}")
            world.problems.append(ended)
            self._restarts += 1
            if self._restarts > _MAX_RESTARTS:
                raise ChaosError(f"{ended}; too often")
            world.driver.start()
        return held


def _tail(world: World) -> str:
    return world.driver.log.read_text(errors="replace")[-1500:].strip()
