"""The accounts of the simulation of clusters: they add up, and no trial is lost or run twice."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.scale.driver import open_driver, plan_study
from benchmarks.scale.machines import Market
from benchmarks.scale.simulation import Simulation, Tally
from benchmarks.scale.workers import Workers
from study.records import EPOCHS, TRIALS, read_table
from study.rows import Row

GPUS = 24
# A node lives for ten minutes: most trials of a pretraining see one go.
STORMY = Market(gpus_per_node=4, reclaims_per_hour=6.0, startup_s=60.0)


def simulate(
    folder: Path, market: Market, trials: int = 200, tune_s: float = 0.0
) -> tuple[Simulation, Tally, Mapping[int, Row]]:
    plan = plan_study(folder, trials, stops_early=True, sampler="random")
    with open_driver(plan, GPUS, flush_s=0.001, tune_s=tune_s) as driver:
        simulation = Simulation(driver, Workers(plan.space, 60.0), market, GPUS, slots_per_gpu=1, seed=0)
        tally = simulation.run(sample_every=20)
        driver.close()
        rows = driver.ledger.rows
    assert read_table(plan.store, TRIALS).num_rows == len(rows)
    assert read_table(plan.store, EPOCHS).num_rows == sum(len(row.epochs) for row in rows.values())
    return simulation, tally, rows


@pytest.fixture(scope="module", params=[0.0, 25.0], ids=["each epoch told", "epochs told together"])
def stormy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Simulation, Tally, Mapping[int, Row]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.scale.simulation.report_every_s", lambda slots: request.param)
        return simulate(tmp_path_factory.mktemp("stormy"), STORMY)


def test_busy_and_idle_are_slots_times_time(
    stormy: tuple[Simulation, Tally, Mapping[int, Row]],
) -> None:
    simulation, tally, _ = stormy
    assert min(tally.seconds.values()) > 0
    assert sum(tally.seconds.values()) == pytest.approx(GPUS * simulation.now_s)
    # What a slot waits for the driver is at least what the driver took, were it never asked for two at once.
    assert tally.seconds["driver"] >= simulation.driver.costs["epoch"].seconds


def test_nothing_is_lost_and_nothing_runs_twice(
    stormy: tuple[Simulation, Tally, Mapping[int, Row]],
) -> None:
    _, tally, rows = stormy
    assert tally.reclaimed > 5
    assert tally.ended == len(rows)
    assert max(Counter(row.cell for row in rows.values()).values()) == 1
    assert {row.status for row in rows.values()} == {"complete", "stopped"}
    phases = Counter(row.cell.phase for row in rows.values() if row.cell.stage == "finetune")
    assert phases["confirm"] == 9
    assert phases["ablation"] == 64


def test_trial_of_a_lost_node_goes_on_after_its_last_epoch(
    stormy: tuple[Simulation, Tally, Mapping[int, Row]],
) -> None:
    _, tally, rows = stormy
    again = [row for row in rows.values() if row.attempts > 1]
    assert sum(row.attempts - 1 for row in again) == tally.reclaimed
    for row in again:
        assert {failure.kind for failure in row.failures} == {"node_lost"}
        assert row.repeated_epochs == 0
        assert sorted(row.epochs) == list(range(1, row.last_epoch + 1))


def test_time_trained_is_that_of_the_epochs_on_record(
    stormy: tuple[Simulation, Tally, Mapping[int, Row]],
) -> None:
    _, tally, rows = stormy
    on_record_s = sum(metrics["wall_s"] for row in rows.values() for metrics in row.epochs.values())
    assert tally.seconds["busy"] == pytest.approx(on_record_s + tally.lost_s)


def test_money_is_that_of_the_nodes_and_the_head(tmp_path: Path) -> None:
    market = Market(
        gpus_per_node=8,
        reclaims_per_hour=0.0,
        startup_spread=0.0,
        dollars_per_gpu_hour=2.0,
        dollars_per_head_hour=1.0,
    )
    simulation, tally, _ = simulate(tmp_path, market, trials=100)
    hours = simulation.now_s / 3600
    assert simulation.cloud.dollars(simulation.now_s) == pytest.approx(hours * (GPUS * 2.0 + 1.0))
    assert tally.seconds["node"] == pytest.approx(GPUS * market.startup_s)
    assert tally.reclaimed == tally.lost_s == 0


def test_tune_is_charged_for_each_hand_out_and_report(tmp_path: Path) -> None:
    simulation, tally, rows = simulate(tmp_path, Market(), trials=100, tune_s=0.5)
    reports = sum(cost.calls for kind, cost in simulation.driver.costs.items() if kind != "next_job")
    attempts = sum(row.attempts for row in rows.values())
    charged_s = sum(cost.tune_s for cost in simulation.driver.costs.values())
    assert charged_s == pytest.approx(0.5 * (reports + attempts))
    # It is waited for, by at least the one whose report it is.
    assert tally.seconds["driver"] >= charged_s
    assert simulation.driver.spent_s > charged_s
