"""The command: `python run_study.py --space fsd_lcs`. Parses, calls `study` and `analysis`, prints."""

import argparse
import difflib
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from rich.console import Console

_COMMANDS: Final = ("run", "reproduce", "doctor")
DONE, WORK_FAILED, WRONG_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

_DESCRIPTION = """\
Runs a study of a temporal action localization method: a search over its settings, then an ablation of its
parts with paired seeds, and prints the ablation table. The same command continues an interrupted study and
shows a finished one."""

_EXAMPLES = """\
examples:
  python run_study.py --list                                     the studies that can be run
  python run_study.py --space fsd_lcs --dry-run                  what it would cost
  python run_study.py --space fsd_lcs                            run it on the bundled data
  python run_study.py --space fsd_lcs --data thumos14:~/thumos14 --out studies/thumos14

  python run_study.py --space fsd_lcs --seeds 16                 more seeds for the study that is there
  python run_study.py reproduce studies/fsd_lcs --trial 17       one trial again, compared with its record
  python run_study.py doctor --address auto --space fsd_lcs      is every node of the cluster fit for it?

exit status: 0 done, 1 a trial or the study failed, 2 wrong usage or input, 3 stopped by --time-budget,
130 interrupted (Ctrl-C), 143 preempted (SIGTERM)"""

_REPRODUCE = """\
Runs one trial of a study again from its record alone, here and without a cluster, and compares: every loss
and score of every epoch, the chosen epoch, the final metrics, the detections and the exported weights.
Nothing in OUT is changed. Exit status: 0 the same to the bit, 1 different, 2 it cannot be run."""

_DOCTOR = """\
Looks at every node of a Ray cluster, or at this machine, before a study does: versions and code, token,
clocks, GPUs, and, as asked for, data, storage, ledger and resources. Prints a table with what to mend.
Exit status: 0 all is well, 1 something is to be mended, 2 the cluster cannot be reached."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    console, errors = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    given = sys.argv[1:] if arguments is None else list(arguments)
    options, unknown = _parser().parse_known_args(_with_subcommand(given))
    if unknown:
        options.parser.error(_advice_on_flag(unknown[0], options.parser.format_usage()))
    signal.signal(signal.SIGTERM, _terminate)
    # Imports stay below the parser so that --help and a wrong flag answer at once.
    from study.phases import StudyError
    from study.plan import USER_ERRORS

    try:
        return _run(options, console)
    except USER_ERRORS as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return WRONG_USAGE
    except StudyError as error:
        errors.print(f"the study cannot go on: {error}", style="red", markup=False)
        return WORK_FAILED
    except OSError as error:
        errors.print(
            f"error: {error.filename or 'the system'}: {error.strerror or error}", style="red", markup=False
        )
        return WORK_FAILED
    except KeyboardInterrupt:
        errors.print("interrupted; the same command starts or continues the study", markup=False)
        return INTERRUPTED


def _terminate(number: int, frame: object) -> None:
    """Leave in order, so that nothing is half-done; while trials run, study.stopping takes over."""
    raise SystemExit(TERMINATED)


def _with_subcommand(arguments: list[str]) -> list[str]:
    """Put `run` before the arguments that name no command, so that it can be left out."""
    first = arguments[0] if arguments else "-"
    if first in _COMMANDS:
        return arguments
    if not first.startswith("-"):
        _parser().error(_advice(first))
    return ["run", *arguments]


def _advice(word: str) -> str:
    """Say what was probably meant by a first word that is no command."""
    from study.spec import list_spaces

    spaces = [space.name for space in list_spaces()]
    meant = difflib.get_close_matches(word, (*_COMMANDS, *spaces), n=1, cutoff=0.6)
    space = word if word.endswith(".yaml") else next((name for name in meant if name in spaces), None)
    if space is not None:
        return f"unknown command {word}; did you mean --space {space}?"
    if meant:
        return f"unknown command {word}; did you mean {meant[0]}?"
    return f"unknown command {word}; there are {', '.join(_COMMANDS)}, and a study is named by --space"


def _advice_on_flag(word: str, usage: str) -> str:
    """Say what was probably meant by a word that a command of that usage does not take."""
    flags = re.findall(r"--[a-z-]+", usage)
    meant = difflib.get_close_matches(word.partition("=")[0], flags, n=1, cutoff=0.7)
    return f"unknown argument {word}; {f'did you mean {meant[0]}?' if meant else '--help lists all'}"


def _run(options: argparse.Namespace, console: Console) -> int:
    from study.launch import default_concurrency, run
    from study.plan import Options, make_plan
    from study.spec import list_spaces

    if options.command == "reproduce":
        return _reproduce(options, console)
    if options.command == "doctor":
        return _doctor(options, console)
    if options.list:
        for space in list_spaces():
            console.print(f"{space.name:<16}{space.problem or space.title}", markup=False, soft_wrap=True)
        return DONE
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    plan = make_plan(Options(**{name: vars(options)[name] for name in Options.__dataclass_fields__}), say)
    if options.dry_run:
        from study.estimate import estimate_cost

        cost = estimate_cost(plan, options.concurrency or default_concurrency(plan.space))
        console.print(cost.render())
        return DONE
    outcome = run(plan, console)
    console.print(outcome.summary(), markup=False, highlight=False, soft_wrap=True)
    if outcome.troubles:
        from study.summary import trouble_table

        console.print(trouble_table(outcome.troubles), soft_wrap=True)
    if not outcome.finished:
        console.print(outcome.how_to_go_on(plan.out), markup=False, highlight=False, soft_wrap=True)
        return outcome.exit_status

    from analysis import show_ablation

    if show_ablation(plan.out, console).paths:
        console.print(
            f"\nin {plan.out}: ablation.md, ablation.csv and the records of every trial", markup=False
        )
    from analysis.report import show_report

    show_report(plan.out, console)
    from analysis.tensorboard import show_tensorboard

    show_tensorboard(plan.out, console)
    if plan.store.local is not None:
        console.print(f"curves: tensorboard --logdir {plan.out}", markup=False)
    if outcome.trials["failed"]:
        console.print(outcome.how_to_go_on(plan.out), markup=False, highlight=False, soft_wrap=True)
        return WORK_FAILED
    return DONE


def _reproduce(options: argparse.Namespace, console: Console) -> int:
    from study.reproduce import reproduce

    console.print(f"running trial {options.trial} again from its record ...", highlight=False)
    comparison = reproduce(options.out, options.trial, data=options.data)
    console.print(comparison.render())
    return DONE if comparison.identical else WORK_FAILED


def _doctor(options: argparse.Namespace, console: Console) -> int:
    from study.doctor import Questions, examine

    report = examine(Questions(**{name: vars(options)[name] for name in Questions.__dataclass_fields__}))
    console.print(report.render(), soft_wrap=True)
    return DONE if report.healthy else WORK_FAILED


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("run_study.py", description=_DESCRIPTION, formatter_class=form)
    commands = parser.add_subparsers(required=True, metavar="[run] | reproduce | doctor", dest="command")
    run = commands.add_parser(
        "run", prog="run_study.py", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=form
    )
    what = run.add_argument_group("what to run")
    choice = what.add_mutually_exclusive_group(required=True)
    choice.add_argument("--space", metavar="NAME", help="a shipped search space, or the path of a .yaml file")
    choice.add_argument("--list", action="store_true", help="list the shipped search spaces and stop")
    what.add_argument(
        "--data",
        metavar="SPEC",
        help="watch (bundled real actions), synthetic, thumos14:DIR, activitynet:DIR or acm:DIR; DIR may be "
        "a URI such as s3://BUCKET/NAME, copied once to each machine (default: the one that the space names)",
    )
    what.add_argument(
        "--fold", type=_at_least(0), default=0, metavar="K", help="which people test `watch` (default: 0)"
    )
    what.add_argument(
        "--data-seed",
        type=_at_least(0),
        default=0,
        metavar="S",
        help="seed of the data's splits (default: 0)",
    )
    what.add_argument(
        "--trials", type=_at_least(1), metavar="N", help="proposals of the search (default: the space's)"
    )
    what.add_argument(
        "--seeds", type=_at_least(1), metavar="N", help="seeds of the ablation (default: the space's)"
    )
    what.add_argument(
        "--seed", type=_at_least(0), default=0, metavar="S", help="seed of the whole study (default: 0)"
    )
    what.add_argument(
        "--protocol",
        choices=("default", "reference"),
        default="default",
        help="reference: the authors' choices: settings and epochs chosen on test; every table says so",
    )
    what.add_argument(
        "--deterministic",
        action="store_true",
        help="the same table for the same --seed on this machine: proposals and stops never depend on timing",
    )
    where = run.add_argument_group("where and how")
    where.add_argument(
        "--out",
        metavar="DIR",
        help="where the results lie: a folder, or a URI such as s3://BUCKET/NAME (default: studies/NAME)",
    )
    where.add_argument(
        "--ledger",
        metavar="URL",
        help="sqlite:////PATH.db or postgresql://USER@HOST/DATABASE (default: a journal file in --out)",
    )
    where.add_argument(
        "--resume",
        choices=("auto", "never", "require", "copy"),
        default="auto",
        help="auto continues the study in --out or starts one, never wants a new folder, require an old one, "
        "copy one whose ledger was lost with its machine, from the copy in --out",
    )
    where.add_argument(
        "--concurrency",
        type=_at_least(1),
        metavar="N",
        help="trials at once (default: one a core, as memory allows)",
    )
    where.add_argument(
        "--gpus-per-trial",
        type=_share,
        metavar="F",
        help="GPUs that a trial holds (default: the space's, 0 without any); auto measures how many fit",
    )
    _add_address(where)
    until = run.add_argument_group("until when")
    until.add_argument(
        "--time-budget",
        metavar="T",
        help="stop after the epochs that run then: 90s, 45m, 8h; the same command continues",
    )
    until.add_argument(
        "--max-failures", type=_at_least(0), metavar="N", help="stop once more than N trials have failed"
    )
    until.add_argument(
        "--retry-failed", action="store_true", help="run the trials that failed in earlier launches again"
    )
    where.add_argument(
        "--dry-run", action="store_true", help="print trials, pretrainings, hours and disk, and stop"
    )
    again = commands.add_parser(
        "reproduce", prog="run_study.py reproduce", description=_REPRODUCE, formatter_class=form
    )
    again.add_argument("out", metavar="OUT", help="where the study lies: a folder or a URI")
    again.add_argument("--trial", type=_at_least(0), required=True, metavar="N", help="number of the trial")
    again.add_argument("--data", metavar="SPEC", help="where the data lie here (default: as on record)")
    _add_doctor(commands, form)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_doctor(commands: Any, form: Any) -> None:
    doctor = commands.add_parser(
        "doctor", prog="run_study.py doctor", description=_DOCTOR, formatter_class=form
    )
    doctor.add_argument("--space", metavar="NAME", help="also whether this study's resources are there")
    doctor.add_argument("--data", metavar="SPEC", help="also whether every node has these data, and the same")
    doctor.add_argument("--out", metavar="DIR", help="also whether every node can write there and read it")
    doctor.add_argument("--ledger", metavar="URL", help="also whether the ledger answers")
    doctor.add_argument(
        "--gpus-per-trial",
        type=_share,
        metavar="F",
        help="GPUs that a trial shall hold (default: the space's)",
    )
    _add_address(doctor)


def _add_address(group: Any) -> None:
    group.add_argument(
        "--address",
        metavar="ADDR",
        type=_cluster,
        default=os.environ.get("RAY_ADDRESS"),
        help="a running Ray cluster, `auto` on its head (default: $RAY_ADDRESS, else one is started here)",
    )


def _at_least(low: int):  # type: ignore[no-untyped-def]
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {low}")
        return int(text)

    return number


def _cluster(address: str) -> str | None:
    return None if address in ("", "local") else address  # as Ray reads them


def _share(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of GPUs, such as 0.25 or 1, nor auto")
    return value


if __name__ == "__main__":
    sys.exit(main())
