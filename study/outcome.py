"""How a launch of a study ended, in words."""

from collections import Counter
from dataclasses import dataclass

from study.progress import show_duration
from study.summary import Trouble


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    finished: bool
    stopped: str | None  # why it ended before the study did
    exit_status: int
    trials: Counter[str]  # by status, of the trials that count
    pretrains: int  # how many of them trained a model for the others to start from
    kept: int  # trials that this launch found complete
    superseded: int  # trials that no longer count, since other settings are wanted in their place
    troubles: tuple[Trouble, ...]
    seconds: float  # of this launch

    def summary(self) -> str:
        """Return the launch in a line or two."""
        trials = self.trials
        waiting = f", {trials['waiting']} to go on" if trials["waiting"] else ""
        shared = (
            f"; {self.pretrains} pretrained models shared by {trials.total() - self.pretrains} trials"
            if self.pretrains
            else ""
        )
        line = (
            f"{trials.total()} trials: {trials['complete']} complete, {trials['stopped']} stopped early, "
            f"{trials['failed']} failed{waiting}{shared}; {show_duration(self.seconds)}"
        )
        if self.kept:
            line += f"\n{self.kept} of them were kept from earlier launches"
        if self.superseded:
            line += f"; {self.superseded} earlier trials no longer count (trials.parquet says why)"
        return line

    def how_to_go_on(self, out: str) -> str:
        """Return why the study is not whole, and what makes it so."""
        failed = self.trials["failed"]
        what = "1 trial has failed" if failed == 1 else f"{failed} trials have failed"
        if self.finished:
            return f"{what}; once the cause is mended, --retry-failed runs what failed again"
        if self.stopped is not None and "--max-failures" in self.stopped:
            return (
                f"{self.stopped}; mend the cause and add --retry-failed, or allow more: the study is in {out}"
            )
        return f"{self.stopped}; the same command continues the study in {out}"
