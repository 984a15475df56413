"""The standing of a run at a rung, against a plain count."""

from hypothesis import given
from hypothesis import strategies as st

from study.rungs import Rung

shown = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5).map(float)), min_size=1, max_size=40)


@given(shown, st.sampled_from([None, 1, 4]), st.sampled_from([1.0, -1.0]))
def test_standing_is_that_of_a_plain_count(
    shown: list[tuple[int, float]], batch: int | None, sign: float
) -> None:
    rung = Rung(sign, batch)
    values: dict[int, float] = {}
    for proposal, value in shown:
        rung.put(proposal, value)
        values[proposal] = value
        others = [
            of
            for other, of in values.items()
            if (other != proposal if batch is None else other // batch < proposal // batch)
        ]
        better = sum(sign * of > sign * value for of in others)
        assert rung.standing(proposal) == (better, len(others))


def test_value_that_is_no_number_is_the_worst() -> None:
    rung = Rung(1.0, None)
    for proposal, value in enumerate((float("nan"), 1.0, 2.0)):
        rung.put(proposal, value)
    assert rung.standing(0) == (2, 2)
    assert rung.standing(2) == (0, 2)
