"""What can go wrong with identities. Each says what, where, and the cure, and none ever holds a secret."""

from __future__ import annotations


class IdentityError(Exception):
    """Something for a person to mend; its text is for them."""


class Unusable(IdentityError):
    """A file or folder cannot be read, written or understood."""


class NotVerified(IdentityError):
    """A certificate chain does not prove an identity."""


class Refused(IdentityError):
    """A request to the CA is refused; `status` is what HTTP says to it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
