import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.trial import TrialState

from study.ledger_location import FILE_NAME
from study.ledger_storage import LedgerLocation, hold, open_storage
from study.plan import Plan
from study.search import LATEST, Proposals, _Finished, mean_curve
from study.store import open_store

CONDITIONAL = {
    "finetune.alignment": {"choice": ["dp", "mean"]},
    "finetune.fsd_gamma": {"float": [0.01, 1.0], "log": True, "when": {"finetune.alignment": ["dp"]}},
    "finetune.lambda_lcs": {"float": [0.02, 1.0]},
}


@pytest.fixture
def plan(make_small_plan: Callable[..., Plan]) -> Plan:
    return make_small_plan()


def open_proposals(
    plan: Plan, folder: Path, seed: int = 0, *, ledger: str | None = None, latest: int = LATEST
) -> Proposals:
    folder.mkdir(exist_ok=True)
    location = LedgerLocation.parse(ledger, open_store(folder))
    with hold(location, "a study") as held:
        storage = open_storage(location, held)
    return Proposals(
        storage,
        "a study",
        plan.space.search,
        plan.space.active,
        direction="max",
        seed=seed,
        defaults=plan.space.defaults("synthetic"),
        latest=latest,
    )


def load(folder: Path, ledger: str | None = None) -> optuna.Study:
    storage = open_storage(LedgerLocation.parse(ledger, open_store(folder)))
    return optuna.load_study(study_name="a study/proposals", storage=storage)


def ask_and_tell(proposals: Proposals, count: int) -> list[Any]:
    for _ in range(count):
        number = proposals.ask()
        value = float(proposals.settings[number]["finetune.lambda_lcs"])
        proposals.tell(number, value, {1: value / 2})
    return [dict(settings) for settings in proposals.settings.values()]


def test_first_proposal_is_the_defaults_and_the_rest_differ(plan: Plan, tmp_path: Path) -> None:
    asked = ask_and_tell(open_proposals(plan, tmp_path / "a"), 5)
    assert asked[0] == plan.space.defaults("synthetic")
    assert len({str(settings) for settings in asked}) == 5


def test_proposals_depend_on_the_seed_alone(plan: Plan, tmp_path: Path) -> None:
    first = ask_and_tell(open_proposals(plan, tmp_path / "a"), 5)
    assert ask_and_tell(open_proposals(plan, tmp_path / "b"), 5) == first
    assert ask_and_tell(open_proposals(plan, tmp_path / "c", seed=1), 5)[1:] != first[1:]


def test_interrupted_search_goes_on_as_if_it_had_not_been(plan: Plan, tmp_path: Path) -> None:
    whole = ask_and_tell(open_proposals(plan, tmp_path / "a"), 6)
    ask_and_tell(open_proposals(plan, tmp_path / "b"), 3)
    assert ask_and_tell(open_proposals(plan, tmp_path / "b"), 3) == whole


@pytest.mark.situation(
    "kill",
    "the driver is killed while the sampler makes a proposal",
    "the next launch completes it as it would have been",
)
def test_crash_in_the_middle_of_an_ask_is_made_good(plan: Plan, tmp_path: Path) -> None:
    """The journal may end after any suggestion of a proposal."""
    asked_at_once = open_proposals(plan, tmp_path / "a")
    for _ in range(2):
        asked_at_once.ask()
    whole = [dict(settings) for settings in asked_at_once.settings.values()]
    journal = tmp_path / "a" / FILE_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines) + 1):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / FILE_NAME).write_bytes(b"".join(lines[:kept]))
        proposals = open_proposals(plan, folder)
        while len(proposals.settings) < 2:
            proposals.ask()
        assert [dict(settings) for settings in proposals.settings.values()] == whole


def test_bound_changes_nothing_until_it_bites(plan: Plan, tmp_path: Path) -> None:
    asked = ask_and_tell(open_proposals(plan, tmp_path / "a"), 40)
    bounded = ask_and_tell(open_proposals(plan, tmp_path / "b", latest=5), 40)
    assert bounded[:26] == asked[:26]  # the best 25 are always seen
    assert bounded != asked


def test_bound_never_keeps_the_sampler_random(make_small_plan: Callable[..., Plan], tmp_path: Path) -> None:
    search = make_small_plan().space.search.model_dump(by_alias=True, mode="json")
    plan = make_small_plan(space={"search": {**search, "sampler": {"name": "tpe", "startup": 30}}})
    asked = ask_and_tell(open_proposals(plan, tmp_path / "a"), 31)
    assert ask_and_tell(open_proposals(plan, tmp_path / "b", latest=3), 31) == asked


def test_interrupted_bounded_search_goes_on_as_if_it_had_not_been(plan: Plan, tmp_path: Path) -> None:
    whole = ask_and_tell(open_proposals(plan, tmp_path / "a", latest=3), 34)
    ask_and_tell(open_proposals(plan, tmp_path / "b", latest=3), 30)
    assert ask_and_tell(open_proposals(plan, tmp_path / "b", latest=3), 4) == whole


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("complete", [0.9, 0.01, 0.0])
def test_bounded_sampler_sees_all_that_optuna_takes_for_good(direction: str, complete: float) -> None:
    """Whatever the order in which the proposals ended."""
    chance = random.Random(f"{direction}/{complete}")
    trials = []
    for number in range(700):
        value = chance.choice([chance.random(), 0.5])
        is_complete = chance.random() < complete
        curve = {} if chance.random() < 0.1 else {chance.choice([2, 4]): value}
        trial = optuna.trial.create_trial(
            state=TrialState.COMPLETE if is_complete else chance.choice([TrialState.PRUNED, TrialState.FAIL]),
            value=value if is_complete else None,
            intermediate_values=curve,
        )
        trial.number = number
        trials.append(trial)
    finished = _Finished(1.0 if direction == "minimize" else -1.0, latest=260)
    for trial in chance.sample(trials, len(trials)):
        finished.add(trial)
    seen = finished.seen()
    study = optuna.create_study(direction=direction)
    taught = [trial for trial in trials if trial.state != TrialState.FAIL]
    good, others = _split_trials(study, taught, default_gamma(len(taught)))
    seen_good, seen_others = _split_trials(study, seen, default_gamma(len(seen)))
    assert [trial.number for trial in seen_good] == [trial.number for trial in good]
    latest = [trial.number for trial in taught[-260:] if trial in others]
    assert [trial.number for trial in seen_others] == latest


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_orderly_end_leaves_nothing_running(plan: Plan, tmp_path: Path, kind: str) -> None:
    ledger = None if kind == "journal" else f"sqlite:///{tmp_path}/ledgers.db"
    whole = ask_and_tell(open_proposals(plan, tmp_path / "a"), 6)
    for asked in range(4):
        proposals = open_proposals(plan, tmp_path / "b", ledger=ledger)
        assert proposals.any_open() == (asked > 0)
        assert all(proposals.is_open(number) for number in range(asked))
        assert proposals.ask() == asked
        proposals.close()
        assert not proposals.any_open()
        states = [trial.state.name for trial in load(tmp_path / "b", ledger).trials]
        assert states == ["WAITING"] * (asked + 1)
    proposals = open_proposals(plan, tmp_path / "b", ledger=ledger)
    settings = [dict(proposals.settings[number]) for number in range(4)]
    assert settings[0] == whole[0]
    assert len({str(values) for values in settings}) == 4
    for number in range(4):
        proposals.tell(number, 1.0, {})
    proposals.close()
    assert [trial.state.name for trial in load(tmp_path / "b", ledger).trials] == ["COMPLETE"] * 4


def test_orderly_ends_change_no_proposal(plan: Plan, tmp_path: Path) -> None:
    at_once = open_proposals(plan, tmp_path / "a")
    in_parts = open_proposals(plan, tmp_path / "b")
    for _ in range(4):
        in_parts.close()
        in_parts = open_proposals(plan, tmp_path / "b")
        assert at_once.settings[at_once.ask()] == in_parts.settings[in_parts.ask()]


def test_crash_between_close_and_reopening_is_made_good(plan: Plan, tmp_path: Path) -> None:
    """The journal may end after any write of an end or an opening."""
    proposals = open_proposals(plan, tmp_path / "a")
    asked = [proposals.ask() for _ in range(2)]
    settings = [dict(proposals.settings[number]) for number in asked]
    journal = tmp_path / "a" / FILE_NAME
    before = len(journal.read_bytes().splitlines())
    proposals.close()
    open_proposals(plan, tmp_path / "a")
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in range(before, len(lines) + 1):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / FILE_NAME).write_bytes(b"".join(lines[:kept]))
        reopened = open_proposals(plan, folder)
        assert [dict(values) for values in reopened.settings.values()] == settings
        assert all(reopened.is_open(number) for number in asked)
        assert reopened.ask() == 2


def test_conditional_parameter_is_searched_only_where_it_matters(
    make_small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    search = {
        **make_small_plan().space.search.model_dump(by_alias=True, mode="json"),
        "parameters": CONDITIONAL,
    }
    plan = make_small_plan(space={"search": search})
    asked = ask_and_tell(open_proposals(plan, tmp_path / "a"), 8)
    assert {settings["finetune.alignment"] for settings in asked} == {"dp", "mean"}
    for settings in asked:
        assert ("finetune.fsd_gamma" in settings) == (settings["finetune.alignment"] == "dp")


def test_optuna_sees_complete_pruned_and_failed_apart(plan: Plan, tmp_path: Path) -> None:
    proposals = open_proposals(plan, tmp_path / "a")
    for value, curve in ((3.0, {1: 2.0, 2: 3.0}), (None, {1: 1.0}), (None, {})):
        proposals.tell(proposals.ask(), value, curve)
    study = load(tmp_path / "a")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert study.trials[0].intermediate_values == {1: 2.0, 2: 3.0}
    assert study.best_value == 3.0


def test_mean_curve_covers_the_epochs_that_all_runs_reached() -> None:
    assert mean_curve([{1: 1.0, 2: 5.0}, {1: 3.0}]) == {1: 2.0}
    assert mean_curve([]) == {}
