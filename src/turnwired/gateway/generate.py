"""`python -m turnwired.gateway.generate DESCRIPTORS --routes FILE --openapi FILE`: what clients and reviewers read."""

import argparse
import json
from pathlib import Path

from turnwired.gateway.bindings import routes_text
from turnwired.gateway.descriptors import Descriptors
from turnwired.gateway.openapi import openapi


def main(arguments: list[str] | None = None) -> None:
    """Write the files that are asked for. Exits with a text, and writes nothing, if a binding cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m turnwired.gateway.generate", description=__doc__)
    parser.add_argument("descriptors", type=Path, help="a FileDescriptorSet with imports and comments")
    parser.add_argument("--routes", type=Path, help="write the table of routes there")
    parser.add_argument("--openapi", type=Path, help="write the OpenAPI 3.1 document there")
    parser.add_argument("--title", default="API", help="the document's title")
    parser.add_argument("--version", default="1.0.0", help="the document's version")
    given = parser.parse_args(arguments)
    descriptors = Descriptors.from_file(given.descriptors)
    try:
        table, document = routes_text(descriptors), openapi(descriptors, given.title, given.version)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    if given.routes:
        given.routes.write_text(table)
    if given.openapi:
        given.openapi.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
