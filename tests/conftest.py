"""What all tests share: fixtures live in tests/fixtures, one subject a file."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stores", "tests.fixtures.core", "tests.fixtures.server"]
