"""The README's lines print what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fixtures.server import ServeStarter

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TRIES = re.findall(r"<!-- try[^>]*-->\n```sh\n(.*?)```\n```\n(.*?)```", README, re.DOTALL)
_CURSOR = re.compile(r"^\d+-\d+ ", re.MULTILINE)


async def test_the_first_chat_prints_what_the_readme_says(serve_process: ServeStarter, sqlite_url: str) -> None:
    assert len(TRIES) == 4
    server = await serve_process(sqlite_url)
    script = "set -e\n" + "".join(f"{lines}\necho ---\n" for lines, _ in TRIES)
    script = script.replace("http://127.0.0.1:8080", server.url).replace("127.0.0.1:50051", server.address)
    script = script.replace('"Hello from Python"', f'"Hello from Python" {server.address}')
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(  # noqa: ASYNC221 (the server is another process)
        ["bash", "-c", script],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    printed = [_CURSOR.sub("", text.strip()) for text in ran.stdout.split("---\n")[:-1]]
    assert printed == [_CURSOR.sub("", said.strip()) for _, said in TRIES]


def test_every_page_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / target).exists(), target
