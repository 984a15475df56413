"""The journal file of a ledger: what a crash leaves behind, and how it is set right.

Optuna appends each change as one line of JSON and reads them again from the start.
"""

import json
import os
from pathlib import Path
from typing import BinaryIO, Final

from study.ledger_location import LedgerError

_BLOCK: Final = 1 << 16
_BEGIN: Final = b'{"op_code":'


def repair(path: Path) -> list[str]:
    """Make good what a killed driver left, for one that holds the ledger; return what that was, in words.

    Raises LedgerError if the file cannot be read and written.
    """
    notes = []
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink():
        # Optuna's own lock, held for one append; Optuna would wait 30 s for it.
        lock.unlink()
        notes.append(f"removed {lock}, which a driver left that was killed while it wrote")
    if not path.exists():
        return notes
    try:
        with path.open("rb+") as file:
            _require_journal(path, file)
            torn = _cut_torn_tail(file)
    except OSError as error:
        raise LedgerError(
            f"cannot write the ledger {path} ({error.strerror}); give yourself the right to, or copy the "
            "study's folder to where you have it"
        ) from error
    if torn:
        notes.append(
            f"cut {torn} bytes of an unfinished line off the end of {path}, which a driver left that was "
            "killed while it wrote; nothing that had been confirmed is lost"
        )
    return notes


def _require_journal(path: Path, file: BinaryIO) -> None:
    begin = file.read(len(_BEGIN)).strip(b"\0")  # a power cut can leave zeros
    if not _BEGIN.startswith(begin):
        raise LedgerError(f"{path} is not a ledger; move it away, or choose another --out")


def _cut_torn_tail(file: BinaryIO) -> int:
    """Cut a last line that is not whole, and return its length."""
    size = file.seek(0, os.SEEK_END)
    end = _last_newline(file, size) + 1
    if end == size and size:
        # A power cut can leave a line's end on disk and not its middle.
        begin = _last_newline(file, size - 1) + 1
        file.seek(begin)
        if not _is_whole(file.read()):
            end = begin
    if end < size:
        file.truncate(end)
        os.fsync(file.fileno())
    return size - end


def _last_newline(file: BinaryIO, before: int) -> int:
    while before > 0:
        begin = max(0, before - _BLOCK)
        file.seek(begin)
        found = file.read(before - begin).rfind(b"\n")
        if found >= 0:
            return begin + found
        before = begin
    return -1


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def damaged_line(path: Path) -> int | None:
    """Return the first line of a journal that is no record, from 1."""
    with path.open("rb") as file:
        return next((number for number, line in enumerate(file, start=1) if not _is_whole(line)), None)
