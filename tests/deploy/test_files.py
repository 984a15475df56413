"""All cluster files: Ray's schema and defaults, one list of what is shipped, and no version of a package."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = {path.name: path for path in (ROOT / "cluster.yaml", *sorted((ROOT / "deploy").glob("*.yaml")))}
PACKAGES = {
    line.partition("==")[0].lower()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
}
EACH = pytest.mark.parametrize("name", FILES)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[name].read_text())


def test_there_is_a_file_for_each_kind_of_machines():
    assert set(FILES) == {"cluster.yaml", "gcp.yaml", "on-prem.yaml"}


@EACH
def test_ray_accepts_the_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = prepare_config(load(name))
    validate_config(config)
    assert config["available_node_types"][config["head_node_type"]]
    assert any("ray start --autoscaling-config" in line for line in config["head_start_ray_commands"])


@EACH
def test_each_machine_gets_the_token_and_the_same_code(name: str):
    mounts = load(name)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert mounts == {f"~/ftcl-study/{path}": path for path in mounts.values()}
    assert set(mounts.values()) == set(load("cluster.yaml")["file_mounts"].values()) - {"~/.ray/auth_token"}
    assert all((ROOT / path).exists() for path in mounts.values())


@EACH
def test_machines_are_installed_and_started_by_the_one_script(name: str):
    config = load(name)
    commands = [line for key in config if key.endswith("commands") for line in config[key]]
    called = {" ".join(found) for line in commands for found in re.findall(r"node\.sh (\w+)( gpu)?", line)}
    assert {call.split()[0] for call in called} == {"install", "head", "worker"}
    assert not [line for line in commands if re.search(r"(?<!: )\bray start", line)]


@EACH
def test_only_rented_machines_power_themselves_off(name: str):
    started = [line for line in load(name)["worker_start_ray_commands"] if "node.sh worker" in line]
    assert [line.endswith("node.sh worker rented") for line in started] == [name != "on-prem.yaml"]


@pytest.mark.parametrize("path", [*FILES.values(), ROOT / "deploy" / "node.sh"], ids=lambda path: path.name)
def test_no_package_has_a_version_outside_constraints(path: Path):
    pins = re.findall(r"([A-Za-z][\w.-]*)\s*(?:==|~=|>=|<=)\s*\d", path.read_text())
    assert not PACKAGES & {name.lower() for name in pins}


@pytest.mark.parametrize("name", ["cluster.yaml", "gcp.yaml"])
def test_five_things_are_edited_and_each_stands_once(name: str):
    text = FILES[name].read_text()
    edited = load(name)["metadata"]
    assert len(edited) == 5
    assert "CHANGE-ME" not in text.partition("\ncluster_name:")[2]
    referred_to = re.findall(r"(?m)^  (\w+): &\1 ", text)
    assert referred_to
    for thing in referred_to:
        text = re.sub(rf"(?m)^(  {thing}: &{thing}) \S+", r"\1 other", text)
    config = yaml.safe_load(text)
    assert list(config.pop("metadata").values()).count("other") == len(referred_to)
    values = list(leaves(config))
    assert values.count("other") >= len(referred_to)
    assert not {edited[thing] for thing in referred_to if isinstance(edited[thing], str)} & set(values)


def leaves(value: Any) -> Iterator[Any]:
    """All values at the ends of a nested structure."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from leaves(part)
    else:
        yield value
