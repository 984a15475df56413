"""What a launch may ask of a study that is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.plan import LaunchError, Plan
from study.records import MANIFEST, RecordsError, write_json
from study.spec import SpecError
from tests.study.pretended import SPACE, acm_folder

MakePlan = Callable[..., Plan]


def test_what_does_not_change_numbers_may_change(make_small_plan: MakePlan) -> None:
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    resources = {"finetune": {"gpus": 0.5}}
    assert not make_small_plan(space={"title": "Spelt right", "resources": resources}).is_new


@pytest.mark.situation(
    "kill",
    "the driver is killed before it has written its manifest",
    "the next start finds no study there and begins it",
)
def test_leftover_of_a_killed_start_does_not_block_the_next(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".manifest.json.12ab.tmp").write_text("{")
    assert make_small_plan().is_new


@pytest.mark.situation(
    "input",
    "--resume require is given where no study is, or --resume never where one is",
    "nothing starts; the message says what is there",
)
def test_study_is_continued_or_refused_as_asked(make_small_plan: MakePlan) -> None:
    with pytest.raises(LaunchError, match="no study to continue"):
        make_small_plan(resume="require")
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    assert make_small_plan().manifest == first.manifest
    assert make_small_plan(resume="require").manifest == first.manifest
    with pytest.raises(LaunchError, match="holds a study already"):
        make_small_plan(resume="never")


@pytest.mark.situation(
    "input",
    "a study is continued with another seed, protocol, data seed or setting",
    "nothing starts; every difference is named",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"ledger": "sqlite:////tmp/other.db"}, "ledger: ledger.journal there, sqlite:////tmp/other.db now"),
        ({"deterministic": True}, "determinism: False there, True now"),
        ({"protocol": "reference"}, "protocol: default there, reference now"),
        ({"data_seed": 4}, "data seed: 0 there, 4 now"),
        ({"space": {"fixed": {"finetune.epochs": 4}}}, "finetune.epochs: 3 there, 4 now"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_output_of_another_study_says_what_differs(
    make_small_plan: MakePlan, change: dict[str, Any], words: str
) -> None:
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    with pytest.raises(LaunchError, match="holds another study") as error:
        make_small_plan(**change)
    assert words in str(error.value)


@pytest.mark.situation(
    "input", "the data have changed since the study was begun", "nothing starts; both fingerprints are named"
)
def test_output_of_other_data_says_so(make_small_plan: MakePlan, tmp_path: Path) -> None:
    folder = acm_folder(tmp_path / "data")
    first = make_small_plan(data=f"acm:{folder}")
    write_json(first.store, MANIFEST, first.manifest)
    np.save(folder / "train" / "train_0.npy", np.full((12, 6), 2.0, np.float32))
    with pytest.raises(LaunchError, match="content of the data"):
        make_small_plan(data=f"acm:{folder}")


@pytest.mark.situation(
    "storage",
    "the manifest of a study is damaged",
    "nothing starts; the file is named, and nothing in the folder is changed",
)
def test_damaged_manifest_is_named(make_small_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(RecordsError, match="not valid JSON"):
        make_small_plan()


class TestExtending:
    """What a launch may ask of a study that is there."""

    @pytest.fixture(autouse=True)
    def begun(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(trials=6, seeds=2)
        write_json(plan.store, MANIFEST, {**plan.manifest, "finished": True})

    def test_same_again_is_finished(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan()
        assert plan.finished and plan.extension.lines == ()

    @pytest.mark.parametrize(
        ("options", "words"),
        [({"trials": 9}, "6 → 9 proposals"), ({"seeds": 5}, "2 → 5 seeds of the ablation")],
    )
    def test_more_is_an_extension(self, make_small_plan: MakePlan, options: Any, words: str) -> None:
        plan = make_small_plan(**options)
        assert not plan.finished
        assert words in plan.extension.lines[0]
        assert plan.manifest["id"] == make_small_plan().manifest["id"]

    @pytest.mark.situation(
        "input",
        "a study is continued with fewer proposals or seeds than it has",
        "nothing starts: results would be left out; the number that it has is named",
    )
    @pytest.mark.parametrize("options", [{"trials": 5}, {"seeds": 1}])
    def test_less_is_refused(self, make_small_plan: MakePlan, options: Any) -> None:
        with pytest.raises(LaunchError, match="would leave results out"):
            make_small_plan(**options)

    def test_without_the_flag_a_study_keeps_what_it_was_extended_to(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(trials=9, seeds=4)
        write_json(plan.store, MANIFEST, plan.manifest)
        again = make_small_plan()
        assert (again.space.search.trials, again.space.ablation.seeds) == (9, 4)

    def test_a_search_may_neither_come_nor_go(self, make_small_plan: MakePlan) -> None:
        with pytest.raises(LaunchError, match="holds another study"):
            make_small_plan(space={"search": None})

    def test_arms_may_come_change_and_go(self, make_small_plan: MakePlan) -> None:
        arms = {"cont": {"finetune.lambda_fsd": 0.1}, "FSD+LCS": {}, "new": {"finetune.lambda_lcs": 0.0}}
        plan = make_small_plan(space={"ablation": {**SPACE["ablation"], "arms": arms}})
        text = "\n".join(plan.extension.lines)
        assert "arm new is new" in text
        assert "arm cont has other settings" in text
        assert "arm acmnet is no longer asked for" in text

    def test_other_comparisons_need_no_trials(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"ablation": {**SPACE["ablation"], "families": []}})
        assert plan.finished
        assert plan.extension.lines == ("the comparisons are others; the table is made anew",)
        assert plan.manifest["space"]["families"] == []

    def test_failed_trials_are_run_again_only_on_request(self, make_small_plan: MakePlan) -> None:
        assert not make_small_plan(retry_failed=True).finished


class TestWithoutSearch:
    """A study that consists of its ablation."""

    @pytest.fixture(autouse=True)
    def begun(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None})
        write_json(plan.store, MANIFEST, {**plan.manifest, "finished": True})

    def test_same_again_is_finished(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None})
        assert plan.finished and plan.extension.lines == ()

    def test_more_seeds_extend_it(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None}, seeds=5)
        assert not plan.finished
        assert plan.extension.lines == ("2 → 5 seeds of the ablation, for each of 3 arms",)

    @pytest.mark.situation(
        "input",
        "--trials is given to a study without a search",
        "nothing starts: there are no proposals that could be more",
    )
    def test_trials_are_refused(self, make_small_plan: MakePlan, tmp_path: Path) -> None:
        for out in ("out", "other"):
            with pytest.raises(SpecError, match="has no search, so it makes no proposals; drop --trials"):
                make_small_plan(space={"search": None}, trials=3, out=str(tmp_path / out))
