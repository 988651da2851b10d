"""Examples are run by tests/integration; a plugin's own tests need it installed, which the tests there do."""

collect_ignore_glob = ["vendor-plugin/*"]
