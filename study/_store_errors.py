"""What goes wrong with a remote store, in words."""

import re
from typing import Final


class StoreError(ValueError):
    """An address names no store that a study can use; the message says why and what to change."""


class StorageError(OSError):
    """A remote store did not do what it was asked, after all attempts: (EIO, what is wrong, which file)."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


_MAX_LENGTH: Final = 240
_WORDS: Final = (
    (r"NO_SUCH_BUCKET|NoSuchBucket", "the bucket does not exist: create it, or correct its name"),
    (
        r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|"
        r"INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT",
        "its keys are not accepted: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"ACCESS_DENIED|AccessDenied|HTTP status 403",
        "access is denied: set the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or let them list, read, "
        "write and delete there",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|Could not connect|timed out|Timeout",
        "it does not answer: check the address (endpoint_override, AWS_ENDPOINT_URL) and the network",
    ),
)


def explain(error: BaseException) -> str:
    """Return what a store's error means and what to do, with the core of its own words."""
    own = " ".join(str(error).split())
    core = re.search(r"AWS Error .*? operation", own)
    shown = core.group() if core else own if len(own) <= _MAX_LENGTH else own[: _MAX_LENGTH - 1] + "…"
    for pattern, words in _WORDS:
        if re.search(pattern, own):
            return f"{words} [{shown}]"
    return shown
