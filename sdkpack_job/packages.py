"""Makes single packages importable without the folder that they were installed in.

A plugin's class is installed beside sdkpack. Were that folder on the path, the toolchain would see everything that is
installed there, in versions that it cannot work with.
"""

import importlib.machinery
import importlib.util
import os
import sys


class PackageFinder:
    """Finds the given top-level packages where they are, and nothing else.

    Args:
        packages: top-level name -> the folder that holds it.
    """

    def __init__(self, packages):
        self._packages = packages

    def find_spec(self, name, path=None, target=None):
        folder = self._packages.get(name)
        if folder is None or path is not None:
            return None
        # By name, not by looking through the folder, which a job may not do.
        inside = os.path.join(folder, name)
        if os.path.isfile(os.path.join(inside, "__init__.py")):
            first = os.path.join(inside, "__init__.py")
            return importlib.util.spec_from_file_location(name, first, submodule_search_locations=[inside])
        if os.path.isdir(inside):
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [inside]
            return spec
        return importlib.util.spec_from_file_location(name, inside + ".py") if os.path.isfile(inside + ".py") else None


def expose(packages):
    """Installs a finder for `packages` after Python's own, so that what the environment holds comes first."""
    sys.meta_path.append(PackageFinder(dict(packages)))
