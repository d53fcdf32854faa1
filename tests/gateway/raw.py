"""HTTP by hand: a request's bytes go out as they are written, and an answer is read as it comes."""

import json
import socket
import time
from dataclasses import dataclass

LIMIT = 15.0


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    spread_ms: float
    """From the first byte of the body to the end."""

    def values(self, name):
        return [value for key, value in self.headers if key == name]


def request_bytes(method, path, headers=(), body=b""):
    """A request's bytes, closing the connection. Host and Content-Length are added where they are not given."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1"]
    if "host" not in given:
        lines.append("Host: parity.test")
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(port, data):
    """Send a request, read the answer to its end."""
    with connect(port) as connection:
        connection.sendall(data)
        received, first_body, end_of_head = b"", None, -1
        while chunk := connection.recv(65536):
            received += chunk
            end_of_head = received.find(b"\r\n\r\n") if end_of_head < 0 else end_of_head
            if first_body is None and 0 <= end_of_head < len(received) - 4:
                first_body = time.monotonic()
        spread = (time.monotonic() - first_body) * 1000 if first_body else 0.0
    return parsed(received, spread)


def parsed(received, spread_ms=0.0):
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if ("transfer-encoding", "chunked") in headers:
        body = unchunked(body)
    return Answer(int(status_line.split()[1]), headers, body, spread_ms)


def unchunked(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            return body
    raise AssertionError("the chunked body has no end")


def strict_json(text):
    """JSON that has no key twice and no bare NaN, numbers by value."""

    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"a key twice in {keys}"
        return dict(pairs)

    def refuse(word):
        raise AssertionError(f"a bare {word}")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def same(left, right):
    """Equal by value, where numbers are equal to numbers only: True is not 1."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return left == right if numbers else type(left) is type(right) and left == right
