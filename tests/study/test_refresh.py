from itertools import pairwise

from study.refresh import Refresh


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def run(takes_s: float, lasts_s: float, *, fails: bool = False) -> list[float]:
    """Return when tables are written that take so long, in a study that lasts so long."""
    clock = Clock()
    written: list[float] = []

    def write() -> None:
        written.append(clock.now_s)
        clock.now_s += takes_s
        if fails:
            raise OSError("no space left")

    refresh = Refresh(write, clock=clock)
    while clock.now_s < lasts_s:
        refresh.poll()
        clock.now_s += 1
    return written


def test_first_tables_are_there_at_once_and_cheap_ones_follow_every_ten_seconds() -> None:
    times = run(0.01, 100)
    assert times[0] == 0
    assert all(10 <= later - earlier < 12 for earlier, later in pairwise(times))
    assert len(times) == 10


def test_dear_tables_take_one_percent_of_the_time() -> None:
    times = run(5, 50_000)
    assert 90 <= len(times) <= 100
    assert len(times) * 5 <= 0.01 * 50_000


def test_tables_that_cannot_be_written_are_tried_again() -> None:
    assert len(run(0.01, 100, fails=True)) == 10
