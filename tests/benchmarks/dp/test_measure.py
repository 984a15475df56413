from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.dp import isolated, machine
from benchmarks.dp.cases import Size, table_case
from benchmarks.dp.measure import Spread, bytes_kept, race


@dataclass
class Pretended:
    """An entry that takes no time, says how long it took, and notes when it ran."""

    name: str
    about_s: float
    log: list[str] = field(default_factory=list)

    def seconds(self) -> float:
        self.log.append(self.name)
        return self.about_s


class KeepsOnNode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.table = torch.zeros(10, dtype=torch.float64)
        return x.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def test_contenders_take_turns():
    log: list[str] = []
    entries = {name: Pretended(name, 0.5, log) for name in ("a", "b")}
    times = race(entries, budget_s=1.0, rounds=3)  # type: ignore[arg-type]
    assert log == ["a", "b"] * 3
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}


def test_who_takes_long_leaves_early():
    entries = {"slow": Pretended("slow", 2.0), "fast": Pretended("fast", 0.5)}
    times = race(entries, budget_s=1.0, rounds=5)  # type: ignore[arg-type]
    assert {name: len(found) for name, found in times.items()} == {"slow": 3, "fast": 5}


def test_a_turn_of_short_calls_begins_with_one_that_is_not_timed():
    entry = Pretended("a", 1e-6)
    (found,) = race({"a": entry}, budget_s=0.001, rounds=2).values()  # type: ignore[dict-item]
    assert len(entry.log) == 2 + len(found)
    assert len(found) > 2


def test_spread():
    spread = Spread.of([float(x) for x in range(11)])
    assert spread == Spread(11, 5.0, 1.0, 9.0, 0.0)


def test_bytes_kept_are_those_beyond_the_inputs_each_once():
    x = torch.rand(5, 4, requires_grad=True)
    assert bytes_kept(lambda x: (x * x).sum(), (x,)) == 0
    assert bytes_kept(lambda x: x.exp().sum(), (x,)) == 80
    assert bytes_kept(lambda x: (lambda y: (y * y[:1]).sum())(x.exp()), (x,)) == 80
    assert bytes_kept(KeepsOnNode.apply, (x,)) == 80


def test_a_process_of_its_own_tells_memory_and_first_call():
    case = table_case("soft_dtw", Size(8, 256, 256))
    found = isolated.measure("torch", [table_case("soft_dtw", Size(2, 3, 4)), case], "cpu", 1)
    assert isinstance(found, isolated.Isolated)
    assert found.first_call_s > 0
    assert found.peak_bytes[str(case)] >= 4 * case.cells


def test_a_process_that_fails_says_why():
    found = isolated.measure("nobody", [table_case("soft_dtw", Size(2, 3, 4))], "cpu", 1)
    assert isinstance(found, str)
    assert "nobody" in found


def test_load_of_other_programs_is_a_share():
    others = machine.OtherLoad()
    torch.rand(500, 500) @ torch.rand(500, 500)
    assert -0.01 <= others.share() <= 2.0
