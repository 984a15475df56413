import errno
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis import ablation_table, load_study, print_ablation, write_ablation
from analysis.__main__ import main
from analysis.conclusion import conclude
from study.records import RecordsError, Store, open_store
from study.rows import Row
from tests.analysis import made_up
from tests.analysis.made_up import gaining

NOISE = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.2, -0.2]
EFFECTS = {"acmnet": 0.0, "cont": 0.0, "+FSD": 0.05, "+LCS": 5.0, "FSD+LCS": 4.0}
VALUES: dict[str, list[Any]] = {
    arm: gaining(*(effect + (0 if arm == "cont" else noise) for noise in NOISE))
    for arm, effect in EFFECTS.items()
}
VALUES["shuffled order"] = gaining(*[1] * 8)
CONTEXT = {"random windows": [2.0, 3.0] * 4}
LOST = "RuntimeError: CUDA out of memory\n[see the log|here] (trial.py:33)"


def sentence(out: Path) -> str:
    study = load_study(out)
    return conclude(study, ablation_table(study))


def printed(out: Path, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_ablation(out, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def space_with(families: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "one",
        "title": "One",
        "recipe": "ftcl",
        "data": "watch",
        "definition": {},
        "arms": {"cont": {}, "+LCS": {}},
        "baseline": "cont",
        "families": families,
        "controls": None,
        "seeds": 8,
    }


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60] ^= 1  # in the first page
    path.write_bytes(content)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_markdown(write_study: Any) -> None:
    out = write_study({**VALUES, "+FSD": [*VALUES["+FSD"][:3], LOST, *VALUES["+FSD"][4:]]}, context=CONTEXT)
    text = Path(write_ablation(out).paths["md"]).read_text()
    assert text.startswith("# Ablation: Do the losses help?\n\nOver 7 to 8 paired seeds score is shown")
    assert "### score on the test videos of watch" in text
    assert "\n| cont | 8 | 45.0 ± 3.8 | – | – | – | – | – | – | – |\n" in text
    row = "| +LCS | 8 | 50.0 ± 3.6 | +5.0 | [+4.8, +5.2] | 0.0078 | 0.0234 | 8/8 | +19.6 [+10.8, +33.4] | 7 |"
    assert f"\n{row}\n" in text
    assert "## With caution\n\n- Of 8 seeds so many have no result: +FSD 1." in text
    assert (
        "95 % interval: paired t, not corrected for the number of rows; of such intervals of 7 normal" in text
    )
    assert "exact up to 20 seeds (where no p is below 2^(1 − n)) if differences are symmetric" in text
    assert "\n| +FSD | 7/8 ⚠ |" in text
    assert "- +FSD: seed 103 missing, failed: RuntimeError: CUDA out of memory \\[see the log\\|here]" in text
    assert "Against FSD+LCS:\n\n| arm |" in text
    assert "\n| random windows | 8 | 2.5 ± 0.5 |\n" in text
    assert "| arm | score | cost |" in text
    assert "data fingerprint: `abc123`" in text
    assert "ablation seeds: 100, 101, 102" in text
    assert "finetune.lambda_fsd = 0.8123" in text
    assert "\n- versions: torch 2.9.0\n- source: git revision `f00d`, with uncommitted changes" in text


def test_csv_reads_back_as_the_table(write_study: Any) -> None:
    out = write_study(VALUES, context=CONTEXT)
    path = Path(write_ablation(out).paths["csv"])
    counts = ("wins", "seeds_needed", "seeds_low", "seeds_high")
    back = pd.read_csv(path).astype(dict.fromkeys(counts, "Int64"))
    pd.testing.assert_frame_equal(back, ablation_table(load_study(out)), check_dtype=False)
    assert "\n+LCS,cont,losses,score,8,0," in path.read_text()
    assert ",,,4," in path.read_text().splitlines()[1]


def test_tables_are_rewritten_whole_and_leave_no_other_files(write_study: Any) -> None:
    out = write_study(VALUES)
    before = {path.name for path in out.iterdir()}
    first = {name: Path(path).read_bytes() for name, path in write_ablation(out).paths.items()}
    second = {name: Path(path).read_bytes() for name, path in write_ablation(out).paths.items()}
    assert first == second
    assert {path.name for path in out.iterdir()} - before == {"ablation.csv", "ablation.md"}


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_every_row_on_one_line(write_study: Any, width: int) -> None:
    lost = {**VALUES, "+FSD": [*VALUES["+FSD"][:3], LOST, *VALUES["+FSD"][4:]]}
    text = printed(write_study(lost, context={"oracle-label windows": [25.0] * 7}), width)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert max(len(line) for line in text.splitlines()) <= width
    assert "+LCS 8 50.0 ± 3.6 +5.0 [+4.8, +5.2] 0.0234 8/8" in lines
    assert "oracle-label windows 7/8 ⚠ 25.0 ± 0.0 – – – –" in lines
    assert "against FSD+LCS" in lines
    assert "[see the log|here]" in " ".join(lines)
    assert "\x1b" not in text


def test_the_sentence_tells_shown_from_not_shown(write_study: Any) -> None:
    assert sentence(write_study(VALUES)) == (
        "Over 8 paired seeds score is shown to be better than cont with +LCS (Holm p = 0.0234) and FSD+LCS "
        "(Holm p = 0.0234) and score is not shown to differ from cont with +FSD (Holm p = 0.586); "
        "of the controls against FSD+LCS (95 % paired-t intervals, uncorrected), shuffled order is worse; "
        "conclusions are over training seeds on this split of watch, not over other data."
    )


def test_the_sentence_credits_no_part_whose_removal_costs_nothing(write_study: Any) -> None:
    text = sentence(write_study({**VALUES, "shuffled order": VALUES["FSD+LCS"]}))
    assert "is not shown to differ, so the gain is not shown to come from what shuffled order removes" in text


def test_the_sentence_names_the_controls_that_do_as_well(write_study: Any) -> None:
    space = made_up.manifest()["space"]
    names = ("shuffled order", "random pairs", "mean similarity")
    control = {"finetune.order": "shuffled"}
    space |= {
        "arms": {**space["arms"], **dict.fromkeys(names, control)},
        "controls": {**space["controls"], "arms": list(names)},
    }
    values = {**VALUES, "random pairs": VALUES["cont"], "mean similarity": gaining(*[6] * 8)}
    text = sentence(write_study({**values, "shuffled order": VALUES["FSD+LCS"]}, space=space))
    assert "random pairs is worse, mean similarity is better and shuffled order is not shown" in text
    assert "not shown to come from what mean similarity and shuffled order remove;" in text


def test_the_sentence_knows_that_less_can_be_better(write_study: Any) -> None:
    worse = {**VALUES, "+LCS": gaining(*[-3] * 8)}
    assert "score is shown to be worse than cont with +LCS" in sentence(write_study(worse))
    families = [{"name": "f", "metric": "cost", "arms": ["+LCS"], "against": "cont"}]
    space = space_with(families)
    assert "cost is shown to be better than cont with +LCS" in sentence(write_study(VALUES, space=space))


@pytest.mark.parametrize(
    ("num_seeds", "words"),
    [
        (5, "where so few seeds allow no p below 0.05"),
        (6, "where so few seeds allow no Holm p of 3 comparisons below 0.094"),
        (1, "supports no conclusion yet: only one seed is complete"),
    ],
)
def test_the_sentence_warns_of_too_few_seeds(write_study: Any, num_seeds: int, words: str) -> None:
    seeds = {"ablation": {"ungated": list(range(100, 100 + num_seeds)), "gated": None}}
    assert words in sentence(write_study(VALUES, seeds=seeds))


def test_the_sentence_of_an_unfinished_study(write_study: Any) -> None:
    assert "supports no conclusion yet: no seed is complete" in sentence(write_study({}))
    assert "1 of 48 runs is missing" in sentence(write_study({**VALUES, "acmnet": VALUES["acmnet"][:7]}))


@pytest.mark.filterwarnings("error")
def test_the_sentence_tells_what_is_not_compared_from_what_is_not_shown(write_study: Any) -> None:
    text = sentence(write_study({arm: VALUES[arm] for arm in ("acmnet", "cont", "+LCS", "+FSD")}))
    assert "is not shown to differ from cont with +FSD (Holm p" in text
    assert "; FSD+LCS has no seed to compare with cont on score;" in text
    assert "against FSD+LCS (95 % paired-t intervals, uncorrected), shuffled order has no seed" in text
    few = {arm: VALUES[arm][:1] for arm in ("+LCS", "+FSD")}
    text = sentence(write_study({**few, "cont": VALUES["cont"], "acmnet": VALUES["acmnet"]}))
    assert (
        "Over 1 paired seed score is not shown to differ from cont with +FSD (1 seed) and +LCS (1 seed), "
        in text
    )
    text = sentence(write_study({arm: VALUES[arm] for arm in ("cont", "acmnet")}))
    assert text.startswith("+FSD, +LCS and FSD+LCS have no seed to compare with cont on score; of the")


def test_selection_on_test_is_said_at_the_tables_and_in_the_sentence(write_study: Any) -> None:
    out = write_study(VALUES, protocol="reference", others=[made_up.early_epoch()])
    assert "settings and epochs were chosen on the test videos" in sentence(out)
    assert "on which settings and epochs were chosen too" in Path(write_ablation(out).paths["md"]).read_text()
    assert "on which settings and epochs were chosen too" in " ".join(printed(out, 80).split())


@pytest.mark.parametrize(
    ("winner", "others", "words"),
    [
        ({"finetune.x": 1}, [made_up.early_epoch()], "Settings and epochs"),
        ({"finetune.x": 1}, [], "Settings"),
        (None, [made_up.early_epoch()], "Epochs"),
    ],
)
def test_only_what_was_chosen_is_said_to_be(
    write_study: Any, winner: dict[str, int] | None, others: list[Row], words: str
) -> None:
    text = Path(write_ablation(write_study(VALUES, winner=winner, others=others)).paths["md"]).read_text()
    assert f"- {words} are chosen on validation videos" in text
    assert ("those of the chosen epoch" in text) == bool(others)


@pytest.mark.parametrize("protocol", ["default", "reference"])
def test_nothing_is_said_of_choosing_where_nothing_is_chosen(write_study: Any, protocol: str) -> None:
    out = write_study(VALUES, winner=None, protocol=protocol)
    assert "chosen" not in Path(write_ablation(out).paths["md"]).read_text()


def test_a_gate_shows_the_gated_seeds_first_and_the_ungated_too(write_study: Any) -> None:
    gate = {"metric": "score", "at_least": 45.0}
    seeds = {"ablation": {"ungated": [100, 101, 102, 103], "gated": [101, 103, 104]}}
    out = write_study(VALUES, gate=gate, seeds=seeds)
    text = Path(write_ablation(out).paths["md"]).read_text()
    assert text.index("## Seeds that pass the gate: score") < text.index("## The first seeds, whether they")
    assert "- only 3 of the 8 wanted seeds passed the gate" in text
    assert "only seeds count whose pretrained model reached score = 45 on validation, 3 of the 8" in text
    assert "seeds that pass the gate" in printed(out, 100)


def test_an_undecided_gate_shows_the_first_seeds_and_says_so(write_study: Any) -> None:
    out = write_study(VALUES, gate={"metric": "score", "at_least": 45.0})
    assert "the gate is not decided yet" in sentence(out)
    assert set(pd.read_csv(write_ablation(out).paths["csv"])["seeds"]) == {"ungated"}


@pytest.mark.situation(
    "input", "a table is asked for while the study has just started", "one line says so; nothing is written"
)
def test_a_study_that_has_just_started_is_no_table_yet(write_study: Any) -> None:
    with pytest.raises(RecordsError, match="has just started"):
        load_study(write_study(VALUES, seeds=None))


def test_a_copied_folder_is_enough(write_study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_study(VALUES)
    copy = out.rename(out.with_name("elsewhere"))
    assert main([str(copy), "--format", "md"]) == 0
    assert "+LCS" in capsys.readouterr().out
    assert (copy / "ablation.md").is_file()
    assert not (copy / "ablation.csv").exists()


def test_a_study_in_a_remote_store_is_read_and_written_there(capsys: pytest.CaptureFixture[str]) -> None:
    out = "memory://analysis/study"
    made_up.write_study(out, VALUES)
    assert main([out]) == 0
    assert f"written: {out}/ablation.csv, {out}/ablation.md" in capsys.readouterr().out
    assert open_store(out).read("ablation.md").startswith(b"# Ablation: Do the losses help?")


@pytest.mark.situation(
    "storage",
    "tables of a study are missing or damaged",
    "`python -m analysis` names the file; the study's command derives it again from the ledger",
)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda out: out.rename(out.with_name("gone")), "is not a folder"),
        (lambda out: (out / "manifest.json").unlink(), "has no manifest.json"),
        (
            lambda out: (out / "manifest.json").write_text('{"schema_version": 2}'),
            "it has no entry id; restore it",
        ),
        (lambda out: (out / "manifest.json").write_text("[1]"), "it holds no JSON object; restore it"),
        (lambda out: (out / "trials.parquet").unlink(), "trials.parquet is missing"),
        (lambda out: (out / "trials.parquet").write_bytes(b"PAR1"), "trials.parquet cannot be read"),
        (lambda out: flip_a_bit(out / "trials.parquet"), "trials.parquet cannot be read"),
        (lambda out: make_folder(out / "trials.parquet"), "trials.parquet cannot be read"),
        (lambda out: pd.DataFrame({"seed": [1]}).to_parquet(out / "trials.parquet"), "has no column trial"),
    ],
)
def test_a_folder_that_is_no_study_is_one_clear_error(
    write_study: Any, capsys: pytest.CaptureFixture[str], spoil: Any, words: str
) -> None:
    out = write_study(VALUES)
    spoil(out)
    assert main([str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.situation(
    "storage",
    "a finished study lies where nothing can be written, such as on a read-only disk",
    "its tables are printed, with a warning that they could not be written",
)
def test_tables_that_cannot_be_written_are_printed(
    write_study: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, name: str, content: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.place(name))

    out = write_study(VALUES)
    monkeypatch.setattr(Store, "write", refuse)
    assert main([str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Over 8 paired seeds" in shown
    assert "the tables could not be written ([Errno 30] Read-only file system" in shown
    assert "written: " not in shown


def test_records_that_may_not_be_read_are_no_failure_to_write(
    write_study: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, name: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.place(name))

    out = write_study(VALUES)
    monkeypatch.setattr(Store, "open", refuse)
    assert main([str(out)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: [Errno 13] Permission denied: '{out / 'trials.parquet'}'\n"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param(
            "s3://bucket/study?endpoint_override=127.0.0.1:9&scheme=http",
            "it does not answer: check the address",
            marks=pytest.mark.situation(
                "storage",
                "python -m analysis is given an object store that does not answer",
                "it says so within 10 s, names the address and what to check",
            ),
        ),
        ("wrong://bucket/study", "cannot open wrong://bucket/study (Protocol not known: wrong)"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    started_s = time.monotonic()
    assert main([address]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert time.monotonic() - started_s < 10


def test_an_unknown_format_is_an_error(write_study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_study(VALUES)), "--format", "md,pdf"]) == 2
    assert "unknown format pdf; there are csv, md, tex, html" in capsys.readouterr().err


def test_an_unknown_metric_is_an_error(write_study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_study(VALUES, headline="other"))]) == 2
    assert "compares on other, which is not among its metrics: score, cost" in capsys.readouterr().err


def test_the_command_needs_neither_torch_nor_ray_nor_optuna(write_study: Any) -> None:
    code = (
        "import sys; from analysis.__main__ import main; main(sys.argv[1:]); "
        "sys.exit(bool({'torch', 'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(write_study(VALUES))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
