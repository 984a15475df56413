"""`python -m ftcl`: train a recipe, or evaluate a checkpoint."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from ftcl.recipes import RECIPES
from ftcl.recipes.protocol import PROTOCOLS

_DATA_HELP = """data (DIR is a folder):
  watch             real shoulder exercises from a smartwatch, built on this machine; nothing to download
  synthetic         tiny, for trying things out
  thumos14:DIR      THUMOS14 in the layout of ACM-Net: gt.json, split_train.txt, split_test.txt,
                    train/VIDEO.npy and test/VIDEO.npy with 2048 channels
  activitynet:DIR   ActivityNet 1.3 in the same layout
  acm:DIR           any data in the same layout, of any width
"""
_EXIT_CODES = "exit codes: 0 done, 1 the work failed, 2 wrong usage or input, 130 interrupted\n"
_EPILOG = f"""examples:
  python -m ftcl train --recipe ftcl --data watch --out runs/first
  python -m ftcl train --recipe ftcl --data watch --out runs/second --set lambda_fsd=0.5 --set fsd_len=8
  python -m ftcl evaluate --recipe ftcl --checkpoint runs/first/finetune.pt --data watch

{_EXIT_CODES}"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help explains the usage)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        # Imported late: PyTorch takes seconds to load, --help and wrong usage need not wait for it.
        from ftcl import cli

        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            cli.COMMANDS[options.command](options)
    except KeyboardInterrupt:
        continues = "; the same command continues after the last finished epoch"
        print(f"interrupted{continues if options.command == 'train' else ''}", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"{parser.prog} {options.command}: error: {error}", file=sys.stderr)
        return 2
    except (ArithmeticError, OSError, RuntimeError) as error:
        print(f"{parser.prog} {options.command}: failed: {error}", file=sys.stderr)
        return 1
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line; where in the code it was raised does not help a user."""
    print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m ftcl",
        description="Localise actions in untrimmed videos, learning from video-level labels only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train all stages of a recipe, then score it on the test split",
        description="Train all stages of a recipe in order, then score it on the test split.\n"
        "An interrupted run continues after its last finished epoch when the command is given again.",
        epilog=f"{_DATA_HELP}\n"
        "written to --out: STAGE.pt (checkpoint of each stage), metrics.json, predictions.json\n"
        f"(ActivityNet format)\n\n{_parameter_help()}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(train)
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    train.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="start from this model, one of `train` or of the authors, instead of training the first stage",
    )
    train.add_argument(
        "--seed", type=int, default=0, help="initialisation, sampling, dropout, pairs (default 0)"
    )

    evaluate = commands.add_parser(
        "evaluate",
        help="score a checkpoint on a split",
        description="Score a checkpoint: one that `train` wrote, or one that the authors of ACM-Net or FTCL\n"
        'released ({"model_state_dict": ...}). Settings are those that the checkpoint was trained with, for\n'
        "the authors' files those of the data's name; --set changes them.",
        epilog=f"{_DATA_HELP}\n{_parameter_help()}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(evaluate)
    evaluate.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="the model")
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="default test"
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE", help="write the detections here (ActivityNet JSON)"
    )
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", choices=tuple(RECIPES), required=True, help="the method")
    parser.add_argument("--data", required=True, metavar="SPEC", help="the data set, see below")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="change a parameter, see below; may be repeated",
    )
    parser.add_argument("--fold", type=int, default=0, help="rotates the people of watch (default 0)")
    parser.add_argument(
        "--data-seed", type=int, default=0, help="composes generated data, holds out validation (default 0)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="default: a GPU if there is one",
    )
    parser.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default="default",
        help="; ".join(f"{name}: {words}" for name, words in PROTOCOLS.items()),
    )


def _parameter_help() -> str:
    from ftcl.recipes.config import parameters

    # One recipe may know more parameters than another; the longest list covers them all.
    known = max((parameters(recipe) for recipe in RECIPES.values()), key=len)
    lines = [
        f"  {parameter.name:<32} {parameter.help} ({parameter.describe_values()})"
        for parameter in known.values()
    ]
    return "\n".join(
        ["parameters of --set (defaults depend on the data; the group may be left out if clear):", *lines, ""]
    )


if __name__ == "__main__":
    sys.exit(main())
