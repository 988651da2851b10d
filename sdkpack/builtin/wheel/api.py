"""Writes the typed, thin `__init__.py` of a release.

What comes from a manifest stands in the text as a Python literal or as a checked identifier: a bundle made by somebody
else must not be able to put code into a release.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any, Final

from sdkpack.builtin.wheel.annotations import Annotations, class_name
from sdkpack.builtin.wheel.names import ReleaseNames
from sdkpack.errors import UsageError
from sdkpack.types import ValueType

__all__ = ["write_api"]

_HEADER: Final = """\
from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import as_file, files
from types import TracebackType
from typing import Any, Self, TypedDict, cast

import numpy as np
import numpy.typing as npt

import sdkpack
import sdkpack.errors

__version__ = {version!r}
__all__ = {public!r}

_PACKAGE = {package!r}
_BUNDLE = {bundle!r}
_PLUGINS = {plugins!r}
_KEY_VARIABLE = {key_variable!r}
_ENCRYPTED = {encrypted!r}
_TRUST_FILES = {trust_files!r}
_NAME = {product!r}

"""

_CLASS: Final = '''\
class {title}:
    __slots__ = ("_files", "_session")

    def __init__(
        self,
        key: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        instances: int = 1,
    ) -> None:
        """Verifies the packed bundle against the publisher's key and makes it ready.

        Args:
            key: the key file that the publisher gave you, or a reference such as `env:NAME`; where it is absent, the
                environment variable in `_KEY_VARIABLE` names it. A bundle that is not encrypted needs none.
            threads: how many threads all models together may use.
            instances: how many calls may run at once.

        Raises:
            sdkpack.errors.SdkpackError: the bundle was changed, the key does not open it, or this machine lacks
                something; the message says which and what to do.
        """
        self._files = as_file(files(_PACKAGE) / "data" / _BUNDLE)
        trust = [(files(_PACKAGE) / "trust" / name).read_text("utf-8") for name in _TRUST_FILES]
        try:
            self._session = sdkpack.open(
                self._files.__enter__(),
                trust=trust or None,
                allow_unsigned=not trust,
                keys=_keys(key),
                plugins=_PLUGINS,
                threads=threads,
                instances=instances,
            )
        except BaseException:
            self._files.__exit__(None, None, None)
            raise

    def close(self) -> None:
        """Frees the models; may be called twice."""
        self._session.close()
        self._files.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
'''

_KEYS: Final = """\
def _keys(key: str | os.PathLike[str] | None) -> Sequence[str]:
    if not _ENCRYPTED:
        return ()
    reference = os.fspath(key) if key is not None else os.environ.get(_KEY_VARIABLE, "")
    if not reference:
        raise sdkpack.errors.KeyFileError(
            f"{_NAME} is encrypted and no key was given",
            hint=f"put the name of the key file that your supplier gave you into {_KEY_VARIABLE}, "
            "or hand it over: --key FILE on the command line, key= in Python",
        )
    return (reference,)
"""

_METHOD: Final = '''
    def {name}(self, {arguments}) -> {result}:
        """{summary}{details}
        """
        outputs = self._session.run({pipeline!r}, {{{inputs}}}, deadline_s=deadline_s, params={params})
        return cast({result!r}, outputs)
'''


def write_api(
    manifest: Mapping[str, Any],
    names: ReleaseNames,
    *,
    encrypted: bool,
    trust_files: tuple[str, ...],
    plugins: tuple[str, ...],
) -> str:
    """The text of `__init__.py`: one class, one method a pipeline.

    Raises:
        UsageError: a pipeline, input or param has a name that Python cannot use.
    """
    annotations = Annotations()
    title = class_name(names.package)
    methods = [_method(name, pipeline, annotations) for name, pipeline in manifest.get("pipelines", {}).items()]
    summary = str(manifest.get("summary", "")) or f"{manifest['name']} {manifest['version']}"
    header = _HEADER.format(
        version=names.version,
        public=sorted([title, *annotations.classes]),
        package=names.package,
        bundle=names.bundle_file,
        plugins=plugins,
        key_variable=names.key_variable,
        encrypted=encrypted,
        trust_files=trust_files,
        product=names.distribution,
    )
    doc = f"{_docstring(summary, '')}\n\n"
    records = "\n\n".join(annotations.classes.values())
    body = _CLASS.format(title=title).replace(":\n", f":\n    {_docstring(summary, '    ')}\n\n", 1)
    return f"{doc}{header}\n{records}\n\n{body}{''.join(methods)}\n\n{_KEYS}"


def _method(name: str, pipeline: Mapping[str, Any], annotations: Annotations) -> str:
    inputs = {key: ValueType.parse(text) for key, text in pipeline["inputs"].items()}
    params = dict(pipeline.get("params", {}))
    for used in (name, *inputs, *params):
        _check_identifier(used)
    arguments = [f"{key}: {annotations.of(kind, key, as_input=True)}" for key, kind in inputs.items()]
    arguments += ["*"]
    arguments += [f"{key}: {type(spec['default']).__name__} = {spec['default']!r}" for key, spec in params.items()]
    arguments += ["deadline_s: float | None = None"]
    outputs = {key: ValueType.parse(entry["type"]) for key, entry in pipeline["outputs"].items()}
    details = "".join(f"\n\n        {key}: {_range(spec)}" for key, spec in params.items() if _range(spec))
    return _METHOD.format(
        name=name,
        arguments=", ".join(arguments),
        result=annotations.result_class(f"{name}_result", outputs),
        summary=_safe(str(pipeline.get("summary", "")) or f"Runs the pipeline {name!r}."),
        details=_safe(details),
        pipeline=name,
        params="{" + ", ".join(f"{key!r}: {key}" for key in params) + "}",
        inputs=", ".join(f"{key!r}: {key}" for key in inputs),
    )


def _range(spec: Mapping[str, Any]) -> str:
    parts = [str(spec["summary"])] if spec.get("summary") else []
    if "min" in spec or "max" in spec:
        parts.append(f"from {spec.get('min', 'any')} to {spec.get('max', 'any')}")
    if spec.get("choices"):
        parts.append(f"one of {', '.join(map(str, spec['choices']))}")
    return ", ".join(parts)


_RESERVED: Final = frozenset({"self", "close", "deadline_s"})


def _check_identifier(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name in _RESERVED or name.startswith("_"):
        raise UsageError(
            f"{name!r} cannot be a name in a Python package", hint="rename the pipeline, input or param in the recipe"
        )


def _safe(text: str) -> str:
    """Text that cannot end the docstring that it stands in."""
    return text.replace("\\", "\\\\").replace('"', "'")


def _docstring(text: str, indent: str) -> str:
    return f'"""{_safe(text).strip()}"""'.replace("\n", f"\n{indent}")
