import pytest
import torch
from torch import Tensor

from benchmarks.dp import answers, measure
from benchmarks.dp.answers import Answer, Errors
from benchmarks.dp.cases import CONTRAST_CASES, Size, make_inputs, match_share, table_case
from benchmarks.dp.contenders import Contender


def test_truth_is_that_of_the_plain_loops():
    assert answers.check_truth() < 1e-12


def test_a_wrong_truth_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = answers._true_values
    monkeypatch.setattr(
        answers, "_true_values", lambda case, device: lambda *x: 1.001 * right(case, device)(*x)
    )
    assert answers.check_truth() > answers.MAX_TRUTH_ERROR


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (Errors(1e-4, 1e-3), None),
        (Errors(2e-3, 1e-3), "wrong: value off by 2.0e-03"),
        (Errors(1e-4, 2e-2), "wrong: gradient off by 2.0e-02"),
        (Errors(float("nan"), 0.0), "wrong: value"),
        (Errors(0.0, float("inf")), "wrong: gradient"),
    ],
)
def test_verdict(error: Errors, begins: str | None):
    found = answers.why_wrong(error)
    assert found is None if begins is None else found is not None and found.startswith(begins)


def test_errors_are_relative_to_the_largest_entry_and_infinite_where_nothing_can_be_compared():
    truth = Answer(torch.tensor([2.0, 4.0]).double(), (torch.tensor([[0.0, 10.0]]).double(),))
    near = Answer(torch.tensor([2.0, 4.4]), (torch.tensor([[0.1, 10.0]]),))
    assert answers.errors(near, truth) == Errors(pytest.approx(0.1), pytest.approx(0.01))
    bad = Answer(torch.tensor([2.0, torch.nan]), (torch.zeros(2, 1),))
    assert answers.errors(bad, truth) == Errors(torch.inf, torch.inf)


def test_a_contender_that_writes_into_its_input_gets_a_copy():
    def careless(x: Tensor) -> Tensor:
        value = 2 * x
        x.data.zero_()
        return value.sum(dim=(1, 2))

    contender = Contender("careless", "peer", ("soft_dtw",), lambda case, device: careless, True)
    leaves = (torch.ones(2, 3, 4, requires_grad=True),)
    measure.Entry(contender, careless, leaves, about_s=0.1).seconds()
    assert (leaves[0] == 1).all()


def test_inputs_are_the_same_every_time_and_differ_between_cases():
    case = table_case("soft_dtw", Size(2, 3, 4))
    assert torch.equal(make_inputs(case)[0], make_inputs(case)[0])
    match, gap = make_inputs(table_case("fsd", Size(2, 3, 4)))
    assert not torch.equal(match, gap)


def test_sums_of_lcs_inputs_are_exact_in_float32():
    (similarity,) = make_inputs(table_case("lcs", Size(2, 50, 60)))
    assert torch.equal(similarity * 1024, (similarity * 1024).round())


@pytest.mark.parametrize("case", CONTRAST_CASES, ids=str)
def test_a_realistic_share_of_the_rows_of_a_contrast_match(case):
    assert 0.03 < match_share(make_inputs(case)[0]) < 0.3
