"""Room on the disk: what is asked before the start, and what is kept for the end."""

import errno
from pathlib import Path

import pytest

from study.disk import (
    BALLAST,
    Ballast,
    check_disk,
    disk_full_message,
    folder_bytes,
    is_disk_full,
    show_bytes,
)
from study.plan import LaunchError
from study.store import open_store


def test_ballast_is_really_allocated_and_given_up_once(tmp_path: Path) -> None:
    with Ballast(open_store(tmp_path), size=1 << 20) as ballast:
        assert (tmp_path / BALLAST).stat().st_blocks * 512 >= 1 << 20
        ballast.release()
        assert not (tmp_path / BALLAST).exists()
        ballast.release()
    with Ballast(open_store(tmp_path)):
        assert (tmp_path / BALLAST).exists()
    assert list(tmp_path.iterdir()) == []


def test_ballast_that_does_not_fit_leaves_the_rest_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("study.disk._allocate", full)
    with Ballast(open_store(tmp_path)):
        assert list(tmp_path.iterdir()) == []


def test_ballast_of_a_remote_study_is_nothing() -> None:
    with Ballast(open_store("memory://study/ballast")) as ballast:
        ballast.release()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_found_behind_other_errors(code: int) -> None:
    try:
        try:
            raise OSError(code, "full")
        except OSError as error:
            raise RuntimeError("could not write the ledger") from error
    except RuntimeError as error:
        assert is_disk_full(error)
    assert not is_disk_full(OSError(errno.EACCES, "not allowed"))
    assert not is_disk_full(ValueError("No space left on device"))


def test_enough_room_is_no_news() -> None:
    assert check_disk(100, 100, 10, "out") is None
    assert check_disk(None, 100, 10, "s3://bucket/out") is None


@pytest.mark.situation(
    "environment",
    "the disk will hold some trials, but not the whole study",
    "a warning with both sizes before the first trial",
)
def test_too_little_room_for_the_study_is_a_warning() -> None:
    warning = check_disk(50_000_000, 2_000_000_000, 10_000_000, "/data/study")
    assert warning is not None
    assert "/data/study has 50.0 MB free and the study needs about 2.0 GB" in warning


@pytest.mark.situation(
    "environment",
    "the disk cannot hold the trials that run at once",
    "refused before the first trial, with both sizes",
)
def test_too_little_room_for_one_round_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"has 5\.0 MB free, .* need about 10\.0 MB: free some space"):
        check_disk(5_000_000, 2_000_000_000, 10_000_000, "/data/study")


def test_full_disk_says_what_is_needed_and_how_it_goes_on(tmp_path: Path) -> None:
    message = disk_full_message(tmp_path, trials_left=40, bytes_per_trial=2.5e6)
    assert str(tmp_path) in message
    assert "the 40 trials that are left need about 100.0 MB" in message
    assert message.endswith("; free some space")
    assert "trials that are left" not in disk_full_message(tmp_path, 40, 0.0)


def test_folder_is_measured_without_the_ballast(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x" * 100_000)
    with Ballast(open_store(tmp_path)):
        assert 100_000 <= folder_bytes(tmp_path) < 200_000


def test_sizes_are_written_for_a_reader() -> None:
    assert [show_bytes(size) for size in (7, 1500, 2.5e6, 3e9)] == ["7 bytes", "1.5 kB", "2.5 MB", "3.0 GB"]
