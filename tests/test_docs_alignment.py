"""docs/alignment.md against the code: every example runs, and what the page says of values holds."""

import ast
import contextlib
import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ftcl.dp import backends, dtw, fsd, lcs, smooth_dtw, soft_dtw

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "alignment.md").read_text()
SETUP, *EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e[+-]\d+)?")


@pytest.fixture
def page_names() -> dict[str, Any]:
    """What the first block of the page defines."""
    names: dict[str, Any] = {}
    exec(SETUP, names)
    return names


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_examples_print_what_is_shown(
    index: int, page_names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Runs all of the compiler but its code generator, which needs a C++ compiler.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    *before, example = EXAMPLES[: index + 1]
    with contextlib.redirect_stdout(io.StringIO()):
        exec("".join(before), page_names)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(example, page_names)
    shown = re.findall(r"^ *print\(.*\)  +# (.*)$", example, flags=re.MULTILINE)
    printed = output.getvalue().splitlines()
    assert len(shown) == example.count("print(")
    assert [NUMBER.sub("0", line) for line in printed] == [NUMBER.sub("0", line) for line in shown]
    for line, expected in zip(printed, shown, strict=True):
        assert numbers(line) == pytest.approx(numbers(expected), rel=1e-4, abs=1e-4)


def numbers(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


def test_the_pictures_show_the_sequences_of_the_page(page_names: dict[str, Any]) -> None:
    script = ast.parse((ROOT / "docs" / "make_alignment_images.py").read_text())
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in script.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {"X", "Y", "GAP"}
    }
    assert page_names["x"].tolist() == pytest.approx(constants["X"])
    assert page_names["y"].tolist() == pytest.approx(constants["Y"])
    assert page_names["gap"].unique().item() == pytest.approx(constants["GAP"])


def test_the_table_of_temperatures_is_what_the_functions_give(page_names: dict[str, Any]) -> None:
    rows = re.findall(r"^\| (γ|`\w+`|entropy of the paths) \|((?: [−.\d]+ \|)+)$", PAGE, flags=re.MULTILINE)
    table = {
        name: torch.tensor(numbers(cells.replace("−", "-")), dtype=torch.float64) for name, cells in rows
    }
    gamma = table["γ"].requires_grad_()
    cost = page_names["cost"].double().expand(len(gamma), -1, -1)
    value = soft_dtw(cost, gamma)
    (slope,) = torch.autograd.grad(value.sum(), gamma)
    expected = {
        "`soft_dtw`": value,
        "`smooth_dtw`": smooth_dtw(cost, gamma),
        "entropy of the paths": -slope,
    }
    for name, computed in expected.items():
        torch.testing.assert_close(table[name], computed.detach(), rtol=0, atol=6e-4)


def test_the_number_of_paths(page_names: dict[str, Any]) -> None:
    (shown,) = re.findall(r"There are ([\d,]+) such paths", PAGE)
    paths = torch.exp(-soft_dtw(torch.zeros_like(page_names["cost"], dtype=torch.float64), 1.0))
    assert round(paths.item()) == int(shown.replace(",", ""))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (1, 4, 4)])
def test_ranges_are_reached(shape: tuple[int, int, int]) -> None:
    _, num_rows, num_columns = shape
    ones = torch.ones(shape)
    assert fsd(ones, ones, 0).item() == 2 * (num_rows + num_columns - 1)
    assert fsd(-ones, -ones, 0).item() == lcs(ones, 0.0).item() * -1 == -min(num_rows, num_columns)


def test_what_is_said_of_the_pictures(page_names: dict[str, Any]) -> None:
    cost, similarity = page_names["cost"].double(), page_names["similarity"]
    dip = [cost[0, i, j].item() for i, j in dtw(cost, return_path=True)[1][0].tolist() if j in (7, 8)]
    assert f"the dip costs {sum(dip):.2f} of the {dtw(cost).item():.2f}" in PAGE
    assert soft_dtw(cost, 0, bandwidth=0).isinf() and soft_dtw(cost, 0, bandwidth=1) > dtw(cost)
    assert lcs(similarity, 0.5) < lcs(similarity, 0.9)
    for gamma in (0.01, 0.1, 1.0):
        (gradient,) = torch.autograd.grad(
            smooth_dtw(leaf := cost.clone().requires_grad_(), gamma).sum(), leaf
        )
        assert gradient.min() < -0.01


def test_costs_and_gamma_scale_together(page_names: dict[str, Any]) -> None:
    cost = page_names["cost"].double()
    torch.testing.assert_close(soft_dtw(2 * cost, 0.2), 2 * soft_dtw(cost, 0.1))
    torch.testing.assert_close(smooth_dtw(2 * cost, 0.2), 2 * smooth_dtw(cost, 0.1))


KEPT: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "soft_dtw": (4, lambda x, **options: soft_dtw(x, 0.1, **options)),
    "smooth_dtw": (4, lambda x, **options: smooth_dtw(x, 0.1, **options)),
    "lcs": (4, lambda x, **options: lcs(x, 0.5, **options)),
    "fsd": (8, lambda x, **options: fsd(x, x, 0.1, **options)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_for_the_backward_pass(name: str) -> None:
    bytes_a_cell, call = KEPT[name]
    (row,) = re.findall(rf"^\| .*`{name}`.* \| (\d+) \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    assert [int(shown) for shown in row] == [bytes_a_cell, 2 * bytes_a_cell]
    x = torch.rand(2, 5, 7, requires_grad=True)
    for recompute, expected in ((False, bytes_a_cell), (True, 0)):
        kept: dict[int, int] = {}

        def keep(saved: Tensor, kept: dict[int, int] = kept) -> Tensor:
            if saved.data_ptr() != x.data_ptr():
                kept[saved.data_ptr()] = saved.nbytes
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            call(x, recompute=recompute)
        assert sum(kept.values()) == expected * x.numel()


def test_every_backend_is_explained() -> None:
    assert set(backends.NAMES) <= set(
        re.findall(r"^\| `(\w+)` \| (?:CPU|GPU|any) \|", PAGE, flags=re.MULTILINE)
    )


def test_files_and_names_of_the_code_exist() -> None:
    code = "\n".join(
        path.read_text() for path in [*ROOT.glob("ftcl/dp/**/*.py"), *ROOT.glob("tests/ftcl/dp/*.py")]
    )
    guide = PAGE[PAGE.index("## Adding a recurrence") : PAGE.index("The pictures are drawn")]
    for word in re.findall(r"`([^`]+)`", guide):
        if "/" in word:
            assert (ROOT / word.replace("<name>", "fsd")).exists(), word
        else:
            assert re.search(rf"\b{re.escape(word)}", code), word
