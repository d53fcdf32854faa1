"""The lines that a person can try on a server as it runs."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from turnwired.config.values import Address

_KEY: Final = "$TURNWIRE_KEY"
_JSON: Final = " -H 'content-type: application/json'"
_HELLO: Final = '{"message":{"parts":[{"text":{"text":"Hello"}}]}}'


@dataclass(frozen=True, slots=True)
class Tries:
    """Lines for a shell. `closed`: the server wants a key, which they take from the environment."""

    http: str
    """`http://HOST:PORT`."""
    grpc: Address | None
    closed: bool
    agent: str = "echo"
    """The agent of a session that names none."""

    def curl(self) -> str:
        """A session, and a turn in it."""
        key = self._key()
        made = f"curl -s{key} {self.http}/v1/sessions -d '{{}}'"
        name = 'sed -n \'s/.*"name": *"\\(sessions[^"]*\\)".*/\\1/p\''
        return f"S=$({made} | {name}); curl -sN{key} {self.http}/v1/$S/turns:chat -d '{_HELLO}'"

    def of(self, dialect: str) -> str:
        """What shows a dialect, by itself: a session and a turn in it. Empty: nothing is known that does."""
        key, api = self._key(), f"{self.http}/api/v1"
        match dialect:
            case "alumia":
                body = '{\\"id\\":\\"$A\\",\\"message\\":{\\"role\\":\\"user\\",\\"content\\":\\"Hello\\"}}'
                return f'A=$(curl -s{key} -X POST {api}/sessions{_first("id")}); curl -sN{key} {api}/chat -d "{body}"'
            case "cortex":
                made = f'curl -s{key}{_JSON} {api}/sessions/ -d \'{{"user_id":"me"}}\''
                turn = f'curl -sN{key}{_JSON} {api}/sessions/$N/chat -d \'{{"prompt":"Hello"}}\''
                return f"N=$({made} | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/'); {turn}"
            case "guayaba":
                return f'curl -s{key} {api}/agents/{quote(self.agent)}/chat -d \'{{"message":"Hello"}}\''
            case "llamacloud":
                made = f"curl -s{key} {api}/chat -d '{{}}'{_first('session_id')}"
                body = '{"index_ids":[],"prompt":"Hello"}'
                return f"L=$({made}); curl -sN{key} {api}/chat/$L/messages/stream -d '{body}'"
            case "hapi":
                token = f'curl -s {self.http}/api/auth -d "{{\\"accessToken\\":\\"$K\\"}}"{_first("token")}'
                made = f'curl -s -H "authorization: Bearer $K" {self.http}/cli/sessions -d \'{{"tag":"try"}}\''
                messages = f'curl -s -H "authorization: Bearer $T" {self.http}/api/sessions/$H/messages'
                names = f"K=${{TURNWIRE_KEY:-any}}; T=$({token}); H=$({made}{_first('id')})"
                return f'{names}; {messages} -d \'{{"text":"Hello"}}\'; {messages}'
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


def _first(name: str) -> str:
    """A filter that gives the first string of this name in a JSON text."""
    return f' | grep -o \'"{name}":"[^"]*"\' | head -n 1 | cut -d \'"\' -f 4'


def reachable(address: Address) -> Address:
    """An address that a line can name: one that listens everywhere is reached at this machine, too."""
    if address.host in {"0.0.0.0", ""}:  # noqa: S104 (it is read here, not listened on)
        return Address("127.0.0.1", address.port)
    return Address("::1", address.port) if address.host == "::" else address
