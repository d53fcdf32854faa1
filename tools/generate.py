"""Write gen/ from proto/: the only way its files come to be.

`python tools/generate.py` rewrites gen/; with `--check` it writes nothing, prints the files of gen/ that are not what
it would write, and exits 1 if there are any. The same protos and the same locked tools give the same bytes.

What it writes, all inside the package `turnwire`:
- v1/*_pb2.py and, for a file with a service, *_pb2_grpc.py, each with its .pyi;
- client/: an async client of dataclasses (betterproto2 over grpclib);
- data/descriptors.binpb: every file with its imports and comments, a FileDescriptorSet;
- data/routes.txt and data/openapi.json: the gateway's own view of those descriptors.

`importlib.resources.files("turnwire") / "data"` finds the last three, installed or not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
GEN = ROOT / "gen"
PROTO = ROOT / "proto"
THIRD_PARTY = ROOT / "third_party"
TEMPLATES = ROOT / "tools" / "templates"
GATEWAY = ROOT / "src" / "turnwired" / "gateway" / "generate.py"


def main() -> int:
    """Run from the command line; gives the exit code."""
    parser = argparse.ArgumentParser(description="Write gen/ from proto/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if gen/ is not current")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnwire-gen-") as folder:
        made = Path(folder) / "gen"
        generate(made)
        if wanted.check:
            return check(made)
        replace(made)
    return 0


def generate(out: Path) -> None:
    """Write all generated files under `out`, which must not exist yet."""
    package = out / "turnwire"
    descriptors = package / "data" / "descriptors.binpb"
    descriptors.parent.mkdir(parents=True)
    protos = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))
    protoc(
        f"--descriptor_set_out={descriptors}",
        "--include_imports",
        "--include_source_info",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        protos=protos,
    )
    protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", protos=with_services(descriptors, protos))
    for source in TEMPLATES.rglob("*"):
        if source.is_file():
            target = package / source.relative_to(TEMPLATES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    client = package / "client" / "_gen"
    client.mkdir(parents=True)
    protoc(f"--python_betterproto2_out={client}", "--python_betterproto2_opt=client_generation=async", protos=protos)
    gateway(out, descriptors)


def protoc(*options: str, protos: list[str]) -> None:
    """Run protoc on files of proto/; what it says is shown only if it fails."""
    if not protos:
        return
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{THIRD_PARTY}", *options, *protos]
    # The plugins, and the ruff that betterproto2 formats with, are this interpreter's neighbours.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    run(command, {"PATH": path})


def with_services(descriptors: Path, protos: list[str]) -> list[str]:
    """Those of `protos` that declare a service; for the others the gRPC plugins would write files without content."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    return [file.name for file in files.file if file.service and file.name in protos]


def gateway(out: Path, descriptors: Path) -> None:
    """Have the gateway write its route table and its OpenAPI document."""
    if not GATEWAY.exists():
        print("generate: routes.txt and openapi.json left out: turnwired.gateway.generate does not exist yet")
        return
    data = descriptors.parent
    command = [sys.executable, "-m", "turnwired.gateway.generate", str(descriptors)]
    command += ["--routes", str(data / "routes.txt"), "--openapi", str(data / "openapi.json")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    command += ["--title", project["name"], "--version", project["version"]]
    # What was just generated comes first, or an outdated gen/ could decide what is written.
    run(command, {"PYTHONPATH": os.pathsep.join([str(out), str(ROOT / "src")]), "PYTHONDONTWRITEBYTECODE": "1"})


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run one step; if it fails, end with its output and exit code 1."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"generate: exit code {done.returncode} from {' '.join(command[1:3])}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` by its path there, without what Python caches."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def check(made: Path) -> int:
    """Print how gen/ differs from `made`; 1 if it does, else 0."""
    new, old = contents(made), contents(GEN)
    for name in sorted(new.keys() | old.keys()):
        if name not in old:
            print(f"gen/{name}: missing")
        elif name not in new:
            print(f"gen/{name}: nothing makes it")
        elif new[name] != old[name]:
            print(f"gen/{name}: outdated")
    if new != old:
        print("gen/ is not current: run make generate, and commit what it writes")
        return 1
    return 0


def replace(made: Path) -> None:
    """Make gen/ equal to `made`; a file that stays the same is not touched."""
    new, old = contents(made), contents(GEN)
    for name in old.keys() - new.keys():
        (GEN / name).unlink()
    for name, content in new.items():
        if old.get(name) != content:
            target = GEN / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
