"""What a finished study spent beside its trials: `python -m benchmarks.study.overhead OUT --slots 2`.

Overhead per trial = (slots x wall time of the study - sum of the trials' own wall times) / trials. It holds
the start of the workers, Tune's bookkeeping, the ledger's writes and slots that found nothing to start.
"""

import argparse
import sys

from benchmarks.study.finished import read_study


def main() -> int:
    """Print the figures of one study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="the folder or URI of a finished study, run in one go")
    parser.add_argument("--slots", type=int, required=True, help="its --concurrency")
    arguments = parser.parse_args()
    _, trials = read_study(arguments.out)
    wall_s = (max(t["ended_at"] for t in trials) - min(t["started_at"] for t in trials)).total_seconds()
    own_s = sum(trial["wall_s"] for trial in trials)
    last_stage = next(trial["stage"] for trial in trials if trial["arm"])
    pretrains = [trial for trial in trials if trial["stage"] != last_stage]
    keys = {trial["pretrain_key"] for trial in trials}
    print(f"{len(trials)} trials on {arguments.slots} slots in {wall_s:.1f} s, {own_s:.1f} s in trials")
    print(f"overhead per trial: {(arguments.slots * wall_s - own_s) / len(trials):.3f} s")
    print(f"pretrainings: {len(pretrains)}, distinct keys: {len(keys)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
