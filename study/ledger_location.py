"""Where a ledger lies, and what can go wrong with it."""

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NoReturn

from study.store import Store

FILE_NAME: Final = "ledger.journal"
_KINDS: Final = "sqlite:////absolute/path.db, or postgresql://user@host/database"
_FIXES: Final = {
    "password authentication failed": "correct the password: in PGPASSWORD, ~/.pgpass or the URL",
    "no password supplied": "give the password: in PGPASSWORD, ~/.pgpass or the URL",
    "permission denied": "let its user create tables there, or give it a database of its own",
    "role": "correct the user in the URL, or create it (createuser)",
    "refused": "start the server, or correct host and port in the URL",
    "resolve": "correct the host in the URL",
    "translate host": "correct the host in the URL",
    "timeout": "look whether the server runs and this machine may reach it",
    "unable to open database file": "make its folder, or correct the path",
    "readonly": "give yourself the right to write it, or copy it to where you have it",
    "not a database": "correct the path, or restore the file from a copy",
    "damaged": "restore the file from a copy, or save what can be read with sqlite3's .recover",
    "malformed": "restore the file from a copy, or save what can be read with sqlite3's .recover",
    "locked": "end what works on it for so long (fuser names it)",
    "optuna version": "install the version of Optuna that made it, or use a new one",
    "database": "create it (createdb), or correct the URL",
}


class LedgerError(ValueError):
    """A ledger cannot be opened; the message says why and what to change."""


class LedgerBusy(LedgerError):
    """Another driver holds the study; the message names it."""


class LedgerLost(Exception):
    """The ledger takes no more writes; all that it took is kept, and the same command continues."""


@dataclass(frozen=True)
class LedgerLocation:
    """A journal file, an SQLite database or a PostgreSQL server."""

    kind: Literal["journal", "sqlite", "postgresql"]
    shown: str  # for records, and to be read again by `parse`: never with a password
    path: Path | None = None  # of the journal or the SQLite database
    url: str = field(default="", repr=False)  # for SQLAlchemy, with the password if it has one

    def __str__(self) -> str:
        return str(self.path) if self.kind == "journal" else self.shown

    @classmethod
    def parse(cls, text: str | None, out: Store) -> "LedgerLocation":
        """Read a `--ledger`; None, or the file's name, is the journal file in OUT.

        Raises LedgerError.
        """
        if text in (None, FILE_NAME):
            if out.local is None:
                raise LedgerError(
                    f"{out.location} is object storage, which cannot be appended to: say where the study's "
                    f"ledger lies with --ledger {_KINDS}"
                )
            return cls("journal", FILE_NAME, out.local / FILE_NAME)
        assert text is not None
        scheme, separator, rest = text.partition("://")
        if scheme == "sqlite" and separator:
            return _sqlite(text, rest)
        if scheme in ("postgresql", "postgres") and separator:
            return _postgresql(f"postgresql://{rest}")
        shown = without_password(text) if separator else text
        raise LedgerError(f"--ledger {shown} is none that is known; give {_KINDS}")


def _sqlite(text: str, rest: str) -> LedgerLocation:
    name = urllib.parse.unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not name or name == ":memory:" or "?" in name:
        raise LedgerError(f"--ledger {text} names no file; write sqlite:////absolute/path.db")
    path = Path(name).absolute()
    return LedgerLocation("sqlite", f"sqlite:///{path}", path, f"sqlite:///{path}")


def _postgresql(text: str) -> LedgerLocation:
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise LedgerError(f"--ledger {without_password(text)} is no URL: {error}") from error
    if not parts.path.strip("/"):
        raise LedgerError(f"--ledger {without_password(text)} names no database; write {_KINDS.split()[-1]}")
    return LedgerLocation("postgresql", without_password(text), None, text)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    authority, slash, tail = rest.partition("/")
    user, at, host = authority.rpartition("@")
    path, mark, query = tail.partition("?")
    options = [option for option in query.split("&") if not option.startswith("password=")]
    query = "&".join(option for option in options if option)
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{path}" + (f"{mark}{query}" if query else "")


def refuse(location: LedgerLocation, error: object) -> NoReturn:
    """Raise LedgerError for a database that cannot be used; the first of the fixes that fits is named."""
    text = first_line(error)
    fix = next((fix for part, fix in _FIXES.items() if part in text), "correct the URL")
    raise LedgerError(f"cannot use the ledger {location}: {text}; {fix}") from None


def first_line(error: object) -> str:
    """Return what a database says, without its context."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
