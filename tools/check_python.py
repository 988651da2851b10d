"""Says what is missing before anything is installed; runs on any Python 3."""

import importlib.util
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "setup: sdkpack needs Python >= 3.11, this is {}.{}; name another: make PYTHON=python3.12 setup".format(
            *sys.version_info[:2]
        )
    )
if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
    sys.exit("setup: this Python lacks venv or ensurepip; on Debian: apt-get install python3-venv")
