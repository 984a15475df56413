"""Where a study lies: a local folder, or a place on an object store, under names with "/".

Local paths and `file://`, what pyarrow knows itself (`s3://`, `gs://`, `abfs://`, `hdfs://`), and everything
else that fsspec has a driver for. Credentials come from the environment or from the provider's own files,
never from the address, for the address stands in records and messages.
"""

import errno
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pyarrow import fs

from ftcl.files import atomic_write
from study._store_errors import StorageError, StoreError, explain

# An object appears whole when its upload ends; anywhere else a file is written aside and moved into place.
_OBJECT_STORES: Final = {"s3", "gs", "gcs", "abfs", "abfss"}
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_CONNECT_S, _SILENCE_S = 2.0, 3.0
_S3_PARAMETERS: Final = {"endpoint_override", "scheme", "region"}
_CREDENTIALS: Final = {"access_key", "secret_key", "session_token", "password", "token", "account_key"}


_CHUNK_BYTES: Final = 8 << 20


class FileState(NamedTuple):
    """What tells that a file has changed."""

    size: int
    mtime_ns: int | None  # None where the store does not know


class Store:
    """The files of one study. A file is written whole or not at all, and may replace another.

    Anything that a remote store does not do raises StorageError (an OSError), except that a missing file is a
    FileNotFoundError everywhere. Local errors are those of the system.
    """

    def __init__(self, location: str, filesystem: fs.FileSystem, root: str, scheme: str) -> None:
        self.location = location
        self.local = Path(root) if scheme == "file" else None
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._scheme = scheme

    def __str__(self) -> str:
        return self.location

    def place(self, name: str) -> str:
        """Return where a file lies, for messages."""
        return f"{self.location.partition('?')[0].rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with self._errors(name), self._filesystem.open_input_file(self._path(name)) as file:
            return cast(bytes, file.read())

    def open(self, name: str) -> BinaryIO:
        """Open a file to read parts of it: seekable, for pyarrow and numpy."""
        with self._errors(name):
            return cast(BinaryIO, self._filesystem.open_input_file(self._path(name)))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file's content in pieces of some MB."""
        with self._errors(name), self._filesystem.open_input_file(self._path(name)) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file, replacing what has its name."""
        if self.local is not None:
            try:
                atomic_write(self.local / name, lambda file: file.write(content))
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                needed, free = len(content) / 1e6, (self.free_bytes() or 0) / 1e6
                sizes = f"{needed:.1f} MB are needed, {free:.1f} MB are free"
                raise OSError(error.errno, f"{self.place(name)}: {error.strerror}: {sizes}") from error
            return
        path = self._path(name)
        with self._errors(name):
            if self._scheme in _OBJECT_STORES:
                self._upload(path, content)
                return
            folder, _, last = path.rpartition("/")
            temporary = f"{folder}/.{last}.{secrets.token_hex(6)}.tmp"
            self._filesystem.create_dir(folder, recursive=True)
            self._upload(temporary, content)
            self._filesystem.move(temporary, path)

    def write_with(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write a file by a function that is given it open; if that raises, nothing is written."""
        if self.local is not None:
            atomic_write(self.local / name, write)
            return
        # Closing an upload completes it, also after an error; so it starts when the content is whole.
        buffer = io.BytesIO()
        write(buffer)
        self.write(name, buffer.getbuffer())

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with self._errors(name):
            info = self._filesystem.get_file_info(self._path(name))
        return bool(info.type == fs.FileType.File)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files directly in a folder, sorted; none if it is absent."""
        with self._errors(folder):
            found = self._filesystem.get_file_info(
                fs.FileSelector(self._path(folder), allow_not_found=True, recursive=False)
            )
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def states(self) -> dict[str, FileState]:
        """Return the size and time of every file, in all folders, by name in order; none if all is absent."""
        with self._errors(""):
            found = self._filesystem.get_file_info(
                fs.FileSelector(self._root, allow_not_found=True, recursive=True)
            )
        return {
            info.path.removeprefix(f"{self._root}/"): FileState(info.size, info.mtime_ns)
            for info in sorted(found, key=lambda info: info.path)
            if info.type == fs.FileType.File
        }

    def delete(self, name: str) -> None:
        """Delete a file; an absent one is fine."""
        with self._errors(name), suppress(FileNotFoundError):
            self._filesystem.delete_file(self._path(name))

    def delete_folder(self, folder: str) -> None:
        """Delete a folder with all that is in it; an absent one is fine."""
        with self._errors(folder), suppress(FileNotFoundError):
            self._filesystem.delete_dir(self._path(folder))

    def free_bytes(self) -> int | None:
        """Return the free space for an ordinary user; None where no limit is known."""
        if self.local is None:
            return None
        existing = next(path for path in (self.local, *self.local.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def check(self) -> None:
        """Write, read and delete a small file, and leave no trace.

        Raises StoreError that says what is wrong with the address, the permissions or the keys, within 10 s.
        """
        # Permissions alone do not tell (root, read-only mounts, policies of a bucket).
        probe, content = f".probe-{secrets.token_hex(6)}", b"probe"
        made = [] if self.local is None else _missing(self.local)
        try:
            # A question first: an upload to a silent server takes twice as long to give up.
            self.names(probe)
            self.write(probe, content)
            same = self.read(probe) == content
            self.delete(probe)
        except OSError as error:
            reason = explain(error.__cause__ or error) if self.local is None else error.strerror or str(error)
            raise StoreError(f"cannot write to {self.location} ({reason}); choose another --out") from error
        finally:
            for folder in made:
                if folder.is_dir():
                    folder.rmdir()
        if not same:
            raise StoreError(
                f"{self.location} gives back other bytes than were written; choose another --out"
            )

    def _upload(self, path: str, content: bytes | memoryview) -> None:
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Let a remote store's errors say which file of which store, and what to do."""
        if self.local is not None:
            yield
            return
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # a driver's own, of any class
            raise StorageError(errno.EIO, explain(error), self.place(name)) from error


def open_store(location: str | Path, *, patient: bool = False) -> Store:
    """Return the store at a path or URI; nothing is asked of it yet.

    A store that does not answer is given up after less than 10 s; if `patient`, as in the middle of a trial,
    after about a minute. Raises StoreError for an address that names no store.
    """
    text = str(location)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _local(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    _refuse_credentials(text)
    try:
        if scheme == "file":
            return _local(Path(unquote(parts.path)))
        if scheme == "s3":
            filesystem, root = _s3(text, patient)
        elif scheme in ("gs", "gcs"):
            limit = {"retry_limit_seconds": "60" if patient else "3"} | dict(parse_qsl(parts.query))
            filesystem, root = fs.FileSystem.from_uri(urlunsplit(parts._replace(query=urlencode(limit))))
        elif scheme in ("abfs", "abfss", "hdfs", "viewfs"):
            filesystem, root = fs.FileSystem.from_uri(text)
        else:
            filesystem, root = fs.FileSystem.from_uri(f"fsspec+{text}")
    except StoreError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"cannot open {text} ({explain(error)}); correct the address") from error
    return Store(text, filesystem, root, scheme)


def _local(folder: Path) -> Store:
    return Store(str(folder), fs.LocalFileSystem(), str(folder), "file")


def _s3(uri: str, patient: bool) -> tuple[fs.FileSystem, str]:
    parts = urlsplit(uri)
    given = dict(parse_qsl(parts.query))
    unknown = sorted(given.keys() - _S3_PARAMETERS)
    if unknown:
        raise StoreError(
            f"{uri}: unknown parameter {unknown[0]}; there are {', '.join(sorted(_S3_PARAMETERS))}"
        )
    if not parts.netloc:
        raise StoreError(f"{uri} names no bucket; write s3://BUCKET/FOLDER")
    endpoint = given.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, separator, host = endpoint.rpartition("://")
    # Left to itself, the SDK asks the network which region it is in.
    region = given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and not endpoint:
        region = fs.resolve_s3_region(parts.netloc)
    filesystem = fs.S3FileSystem(
        endpoint_override=host.rstrip("/") or None,
        scheme=given.get("scheme") or (scheme if separator else "https"),
        region=region or "us-east-1",
        connect_timeout=_CONNECT_S,
        request_timeout=_SILENCE_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=8 if patient else 2),
        allow_delayed_open=True,  # small files in one request
    )
    return filesystem, parts.netloc + parts.path


def _refuse_credentials(uri: str) -> None:
    parts = urlsplit(uri)
    # abfs://CONTAINER@ACCOUNT and sftp://USER@HOST are addresses, what follows a colon is a secret.
    secret = parts.password is not None or (parts.scheme == "s3" and parts.username is not None)
    if secret or _CREDENTIALS & {name.lower() for name, _ in parse_qsl(parts.query)}:
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
        raise StoreError(
            f"the address {shown} has credentials in it, which would stand in records and messages; leave "
            "them out and set them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in the "
            "provider's own files"
        )


def _missing(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.parents) if not path.exists()]


__all__ = ["FileState", "StorageError", "Store", "StoreError", "open_store"]
