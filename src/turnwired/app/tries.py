"""The lines that a person can try on a server as it runs."""

from dataclasses import dataclass
from typing import Final

from turnwired.config.values import Address

_KEY: Final = "$TURNWIRE_KEY"
_HELLO: Final = '{"message":{"parts":[{"text":{"text":"Hello"}}]}}'


@dataclass(frozen=True, slots=True)
class Tries:
    """Lines for a shell. `closed`: the server wants a key, which they take from the environment."""

    http: str
    """`http://HOST:PORT`."""
    grpc: Address | None
    closed: bool

    def curl(self) -> str:
        """A session, and a turn in it."""
        key = self._key()
        made = f"curl -s{key} {self.http}/v1/sessions -d '{{}}'"
        name = 'sed -n \'s/.*"name": *"\\(sessions[^"]*\\)".*/\\1/p\''
        return f"S=$({made} | {name}); curl -sN{key} {self.http}/v1/$S/turns:chat -d '{_HELLO}'"

    def of(self, dialect: str) -> str:
        """What shows a dialect; it may take the session of `curl`. Empty: nothing is known that does."""
        match dialect:
            case "alumia":
                body = '{\\"id\\":\\"${S#sessions/}\\",\\"message\\":{\\"role\\":\\"user\\",\\"content\\":\\"Hello\\"}}'
                return f'curl -sN{self._key()} {self.http}/api/v1/chat -d "{body}"'
            case "guayaba":
                return f'curl -s{self._key()} {self.http}/api/v1/agents/echo/chat -d \'{{"message":"Hello"}}\''
            case _:
                return ""

    def grpcurl(self) -> str:
        """The same over gRPC; it takes the session of `curl`. Empty where there is no gRPC port."""
        if self.grpc is None:
            return ""
        body = '{\\"parent\\":\\"$S\\",\\"message\\":{\\"parts\\":[{\\"text\\":{\\"text\\":\\"Hello\\"}}]}}'
        return f'grpcurl -plaintext{self._key()} -d "{body}" {reachable(self.grpc)} turnwire.v1.TurnService/Chat'

    def chat(self) -> str:
        """A chat in the terminal. Empty where there is no gRPC port."""
        return f"turnwire chat --server {reachable(self.grpc)}" if self.grpc is not None else ""

    def _key(self) -> str:
        return f' -H "authorization: Bearer {_KEY}"' if self.closed else ""


def reachable(address: Address) -> Address:
    """An address that a line can name: one that listens everywhere is reached at this machine, too."""
    if address.host in {"0.0.0.0", ""}:  # noqa: S104 (it is read here, not listened on)
        return Address("127.0.0.1", address.port)
    return Address("::1", address.port) if address.host == "::" else address
