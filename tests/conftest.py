"""What all tests share: fixtures live in tests/fixtures, one subject a file."""

import structlog

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stores", "tests.fixtures.core", "tests.fixtures.server"]

# structlog's own way to show an exception prints every local of every frame, which takes seconds of the event loop.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
