"""`python -m sdkpack.testing.light MODULE`: what importing a plugin's module and asking it for its rows costs.

Prints JSON: top-level modules that it loaded beside the standard library and the plugin API, and CPU seconds. A process
of its own, so that nothing is loaded yet.
"""

from __future__ import annotations

import json
import sys
import time

__all__ = ["main"]


def main(module: str) -> int:
    """Loads a plugin as the registry does."""
    from sdkpack.host.loading import load_plugin

    load_plugin("warm", "sdkpack.plugin", "", "")  # the registry's own imports are not the plugin's
    before = set(sys.modules)
    begin = time.process_time()
    state = load_plugin("plugin", module, "", "")
    seconds = time.process_time() - begin
    own = {"sdkpack", "pluggy", module.partition(".")[0]} | set(sys.stdlib_module_names)
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(json.dumps({"modules": sorted(new - own), "cpu_s": seconds, "reason": state.reason}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
