"""What `ray up cluster.yaml` tells machines: Ray's own launcher and installer, and a recorder for ssh."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config, get_or_create_head_node
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
from ray.core.generated.instance_manager_pb2 import Instance

from deploy import aws_setup
from tests.deploy.aws import ROOT, edited_file

pytestmark = pytest.mark.xdist_group("pretended AWS")


class Recorder:
    """Stands where Ray has `subprocess`: every command is kept, and nothing is run."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.bootstrap_config = ""

    def check_call(self, command: list[str], *_: object, **__: object) -> int:
        self.commands.append(command)
        if command[-1].endswith(":~/ray_bootstrap_config.yaml"):
            self.bootstrap_config = Path(command[-2]).read_text()
        return 0

    def check_output(self, command: list[str], *_: object, **__: object) -> bytes:
        self.check_call(command)
        return b""

    def run_there(self) -> list[str]:
        """The commands that run on the machine, without what Ray puts around them."""
        shells = [command[-1] for command in self.commands if command[0] == "ssh"]
        return [shell.partition("PYTHONWARNINGS=ignore && (")[2].rstrip(")'") for shell in shells]

    def shipped(self) -> dict[str, str]:
        """Where files go, and where from."""
        syncs = [command for command in self.commands if command[0] == "rsync"]
        return {command[-1].partition(":")[2].rstrip("/"): command[-2] for command in syncs}


@pytest.fixture(scope="module")
def launched(account: Path) -> tuple[dict[str, Any], Recorder]:
    """The completed file, and what the head was told."""
    (account / ".ray").mkdir()
    (account / ".ray" / "auth_token").write_text("0" * 64)
    path = edited_file(account)
    aws_setup.set_up(**aws_setup.read_wanted(yaml.safe_load(path.read_text()), str(path)))
    config = _bootstrap_config(yaml.safe_load(path.read_text()), no_config_cache=True)
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        get_or_create_head_node(config, str(path), False, False, True, None, _runner=recorder)  # type: ignore[arg-type]
    return config, recorder


def position(commands: list[str], end: str) -> int:
    (found,) = [index for index, command in enumerate(commands) if command.endswith(end)]
    return found


def test_head_gets_token_and_code_and_starts(launched: tuple[dict[str, Any], Recorder]):
    _, recorder = launched
    shipped = recorder.shipped()
    assert shipped["~/.ray/auth_token"].endswith("/.ray/auth_token")
    assert {name for name in shipped if name.startswith("~/ftcl-study/")} >= {
        "~/ftcl-study/study",
        "~/ftcl-study/deploy",
    }
    commands = recorder.run_there()
    install = position(commands, "cd ~/ftcl-study && deploy/node.sh install")
    start = position(commands, "cd ~/ftcl-study && deploy/node.sh head")
    assert install < start == len(commands) - 1
    assert "RAY_enable_autoscaler_v2=1" in commands[start]
    assert '{"CPU":0}' in commands[start]


def test_head_can_launch_and_start_gpu_machines(
    launched: tuple[dict[str, Any], Recorder], account: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the file and the key that `ray up` has put on it, and the code that it has."""
    config, recorder = launched
    (account / "ray_bootstrap_key.pem").write_text(Path(config["auth"]["ssh_private_key"]).read_text())
    (account / "ftcl-study").symlink_to(ROOT)
    on_head = AutoscalingConfig(json.loads(recorder.bootstrap_config), skip_content_hash=True)
    provider = _get_node_provider(on_head.get_provider_config(), "ftcl", use_cache=False)
    tags = {"ray-node-type": "worker", "ray-user-node-type": "gpu", "ray-launch-config": "any"}
    machine = next(iter(provider.create_node(on_head.get_cloud_node_config("gpu"), tags, 1)))
    assert machine in provider.non_terminated_nodes({})  # the autoscaler looks first, too
    monkeypatch.setattr(time, "sleep", lambda _: None)
    to_worker = Recorder()
    instance = Instance(instance_id="1", instance_type="gpu", cloud_instance_id=machine)
    RayInstaller(provider, on_head, process_runner=to_worker).install_ray(instance, "10.0.0.1")
    assert to_worker.shipped().keys() == config["file_mounts"].keys() - {
        "~/ray_bootstrap_config.yaml",
        "~/ray_bootstrap_key.pem",
    }
    commands = to_worker.run_there()
    install = position(commands, "cd ~/ftcl-study && deploy/node.sh install gpu")
    start = position(commands, "cd ~/ftcl-study && deploy/node.sh worker rented")
    watch = position(commands, ">> ~/spot_notice.log 2>&1")
    assert install < start < watch
    assert "RAY_HEAD_IP=10.0.0.1;" in commands[start]
    assert f"RAY_CLOUD_INSTANCE_ID={machine};" in commands[start]
