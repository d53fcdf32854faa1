"""Ids, secrets and chance, through one seam: nothing else in turnwired draws random values."""

import base64
import os
import random
import secrets
import uuid
from abc import ABC, abstractmethod


class Ids(ABC):
    """Makes ids and draws chance. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._process_id = f"{os.getpid()}-{self.token(6)}"

    @abstractmethod
    def token_bytes(self, nbytes: int) -> bytes:
        """`nbytes` bytes that nobody can guess."""

    @abstractmethod
    def uniform(self, low: float, high: float) -> float:
        """A number from `low` to `high`, for jitter. Not a secret."""

    def uuid(self) -> str:
        """A version 4 UUID in its 36-character lower-case form."""
        return str(uuid.UUID(bytes=self.token_bytes(16), version=4))

    def token(self, nbytes: int = 32) -> str:
        """A secret of `nbytes` bytes as lower-case hex, so 2 x `nbytes` characters."""
        return self.token_bytes(nbytes).hex()

    def token_urlsafe(self, nbytes: int = 32) -> str:
        """A secret of `nbytes` bytes in URL-safe base64 without padding."""
        return base64.urlsafe_b64encode(self.token_bytes(nbytes)).rstrip(b"=").decode("ascii")

    def process_id(self) -> str:
        """The name of this process among all replicas, `PID-HEX`; the same for the life of this object."""
        return self._process_id


class RandomIds(Ids):
    """Ids from the operating system's random source."""

    def token_bytes(self, nbytes: int) -> bytes:
        return secrets.token_bytes(nbytes)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 (jitter, no secret)


class SeededIds(Ids):
    """The same ids on each run with one seed. For tests: its tokens are no secrets."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (for tests)
        super().__init__()
        self._process_id = f"0-{self.token(6)}"

    def token_bytes(self, nbytes: int) -> bytes:
        return self._random.randbytes(nbytes)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
