"""Each import contract is broken by an import that it forbids, and by none that the layout needs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
LAYERS = [
    [name.strip(" ()").removeprefix("turnwired.") for name in layer.split("|")]
    for layer in CONTRACTS["layers"]["layers"]
    if layer != "turnwire"
]

FORBIDDEN = [
    ("layers", "turnwired.clock", "turnwired.config"),
    ("layers", "turnwired.config.some", "turnwired.telemetry.some"),
    ("layers", "turnwired.rules.fold", "turnwired.store.some"),
    ("layers", "turnwired.store.some", "turnwired.bus.some"),
    ("layers", "turnwired.providers.some", "turnwired.store.some"),
    ("layers", "turnwired.eventlog.some", "turnwired.engine.some"),
    ("layers", "turnwired.nodeclient.some", "turnwired.nodes.some"),
    ("layers", "turnwired.services.some", "turnwired.engine.some"),
    ("layers", "turnwired.engine.some", "turnwired.services.some"),
    ("layers", "turnwired.app.some", "turnwired.cli.some"),
    ("layers", "turnwire.v1.turn_pb2", "turnwired.ids"),
    ("http-side", "turnwired.dialects.alumia", "turnwired.store.some"),
    ("http-side", "turnwired.dialects.hapi", "turnwired.rules.fold"),
    ("http-side", "turnwired.gateway.some", "turnwired.eventlog.some"),
    ("http-side", "turnwired.gateway", "turnwired.providers.some"),
    ("http-side", "turnwired.web.some", "turnwired.errors"),
    ("dialects", "turnwired.dialects.alumia", "turnwired.dialects.hapi"),
    ("gateway", "turnwired.gateway.some", "turnwire.v1.turn_pb2"),
    ("gateway", "turnwired.protojson.some", "turnwire.v1.turn_pb2"),
    ("peewee", "turnwired.engine.some", "peewee"),
    ("peewee", "turnwired.bus.some", "playhouse"),
    ("peewee", "turnwired.clock", "peewee"),
]
ALLOWED = [
    ("turnwired.cli.some", "turnwired.app.some"),
    ("turnwired.app.some", "turnwired.dialects.alumia"),
    ("turnwired.services.some", "turnwired.eventlog.some"),
    ("turnwired.engine.some", "turnwired.store.some"),
    ("turnwired.nodes.some", "turnwired.providers.some"),
    ("turnwired.nodeclient.some", "turnwired.providers.some"),
    ("turnwired.store.some", "turnwired.rules.fold"),
    ("turnwired.store.some", "peewee"),
    ("turnwired.store", "playhouse"),
    ("turnwired.errors", "turnwire.v1.turn_pb2"),
    ("turnwired.gateway.some", "turnwired.web.some"),
    ("turnwired.gateway.some", "turnwired.protojson.some"),
    ("turnwired.dialects.alumia", "turnwired.web.some"),
    ("turnwired.dialects.alumia", "turnwired.rules.names"),
    ("turnwired.rules.names", "turnwired.errors"),
    ("turnwired.web.some", "turnwired.telemetry.some"),
    ("turnwired.web.some", "turnwired.ids"),
    ("turnwired.web.some", "turnwire.v1.turn_pb2"),
]


def report(folder: Path, imports: list[tuple[str, str]]) -> tuple[int, str]:
    """Lint a package that has the layout of ours and nothing but these imports; gives exit code and report."""
    modules = {"clock", "errors", "ids", "rules.fold", "rules.names", "dialects.alumia", "dialects.hapi"}
    modules |= {f"{name}.some" for layer in LAYERS for name in layer} - {f"{name}.some" for name in modules}
    for module in [*(f"turnwired.{name}" for name in modules), "turnwire.v1.turn_pb2"]:
        file = folder.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        for parent in file.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
    for importer, imported in imports:
        package = folder.joinpath(*importer.split("."))
        file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
        file.write_text(file.read_text() + f"import {imported}\n")
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    code, said = report(tmp_path_factory.mktemp("broken"), [imports for _, *imports in FORBIDDEN])
    assert code == 1, said
    return said.split("Broken contracts", 1)[1]


@pytest.mark.parametrize(("contract", "importer", "imported"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(broken: str, contract: str, importer: str, imported: str) -> None:
    about = re.split(rf"^{re.escape(CONTRACTS[contract]['name'])}\n-+$", broken, flags=re.MULTILINE)[1]
    about = re.split(r"^-+$", about, flags=re.MULTILINE)[0]
    assert re.search(rf"{re.escape(importer)} -> {re.escape(imported)} ", about), broken


def test_what_the_layout_needs_breaks_nothing(tmp_path: Path) -> None:
    code, said = report(tmp_path, ALLOWED)
    assert code == 0, said
    assert f"{len(CONTRACTS)} kept, 0 broken" in said


def test_every_package_has_its_layer() -> None:
    here = {
        path.stem
        for path in (ROOT / "src" / "turnwired").iterdir()
        if path.name not in {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    }
    assert here <= {name for layer in LAYERS for name in layer}
