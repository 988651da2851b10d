"""The one hierarchy of errors: what the user is told, and with which exit code.

Every error that sdkpack raises on purpose is an `SdkpackError`. Codes never change meaning; `docs/errors.md` is
generated from this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "BundleError",
    "DeadlineError",
    "DirectoryError",
    "DocumentError",
    "DocumentVersionError",
    "EnvelopeError",
    "ExternalDataError",
    "FileError",
    "FormatVersionError",
    "GateError",
    "GraphError",
    "IndexDataError",
    "InputError",
    "InternalError",
    "InterruptedRunError",
    "KeyFileError",
    "LimitError",
    "ModelError",
    "NoFittingVariantError",
    "NoMatchError",
    "OutputError",
    "ParityError",
    "PathNameError",
    "PayloadError",
    "PipelineError",
    "PluginBrokenError",
    "PluginError",
    "PluginMissingError",
    "Problem",
    "PrologueError",
    "RunError",
    "SdkpackError",
    "SignatureError",
    "StepError",
    "TrustError",
    "UsageError",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One of several things wrong with a document, all of which are told together."""

    path: str
    """Where in the document, as its author writes it: `models.det.targets[1]`."""
    message: str
    got: str = ""
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.message}" if self.path else self.message]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got:
            parts.append(f"got {self.got}")
        text = ", ".join(parts)
        return f"{text} ({self.hint})" if self.hint else text


class SdkpackError(Exception):
    """A failure that is told to the user.

    Args:
        message: what is wrong, where, got and expected; lower case, no full stop.
        hint: the next command or edit.
        where: the file, document path or plugin that the message is about, where the message does not say it.
        problems: the single findings, where there are several.
    """

    code: ClassVar[str] = "E100"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", where: str = "", problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The same facts for `--json`; keys without a value are absent."""
        facts: dict[str, Any] = {"code": self.code, "exit_code": self.exit_code, "message": self.message}
        if self.where:
            facts["where"] = self.where
        if self.hint:
            facts["hint"] = self.hint
        if self.problems:
            fields = ("path", "message", "got", "expected", "hint")
            facts["problems"] = [
                {name: getattr(problem, name) for name in fields if getattr(problem, name)} for problem in self.problems
            ]
        return facts


# E1xx: what the user wrote or asked for ---------------------------------------------------------------------------
class UsageError(SdkpackError):
    """A command or a call was used in a way that cannot work."""

    code = "E101"
    exit_code = 2


class DocumentError(SdkpackError):
    """A recipe, manifest, trust file or other document is not valid; `problems` lists every finding."""

    code = "E102"
    exit_code = 2


class PipelineError(DocumentError):
    """A pipeline is wired wrongly: unknown value, type or shape mismatch, cycle, unused output."""

    code = "E103"


class DocumentVersionError(DocumentError):
    """A recipe, plan, trust file or report was written for a newer sdkpack than this one."""

    code = "E104"


# E2xx: files ------------------------------------------------------------------------------------------------------
class FileError(SdkpackError):
    """A file or folder is missing, unreadable or not what it should be."""

    code = "E201"


class OutputError(SdkpackError):
    """A result cannot be written: exists already, unwritable folder, full disk."""

    code = "E202"


class PathNameError(SdkpackError):
    """A path name is not allowed in a bundle, or leads outside its folder."""

    code = "E203"
    exit_code = 4


class KeyFileError(SdkpackError):
    """A key file is missing, malformed, of another kind, or readable by others."""

    code = "E204"


# E3xx: models and steps -------------------------------------------------------------------------------------------
class ModelError(SdkpackError):
    """A model file is corrupt, not of the stated format, too large, or uses what its target does not support."""

    code = "E301"


class ExternalDataError(ModelError):
    """ONNX external data points outside its folder, at something other than a plain file, or outside the file."""

    code = "E302"


class GraphError(ModelError):
    """A model's graph breaks a rule of ONNX."""

    code = "E303"


class StepError(SdkpackError):
    """A build step failed; the message names step, plugin and log."""

    code = "E304"


class ParityError(StepError):
    """A step changed what a model computes by more than its tolerance."""

    code = "E305"
    exit_code = 6


# E4xx: verification; cryptographic failures carry one message for all causes ----------------------------------------
class BundleError(SdkpackError):
    """A bundle is not what it should be. Subclasses name the part."""

    code = "E400"
    exit_code = 4


class PrologueError(BundleError):
    """The first 64 bytes or the trailer are malformed."""

    code = "E401"


class EnvelopeError(BundleError):
    """The recipients' part is malformed or was changed."""

    code = "E402"


class DirectoryError(BundleError):
    """The public directory is malformed, does not match the file, or was changed."""

    code = "E403"


class IndexDataError(BundleError):
    """The index is malformed, does not match the directory, or was changed."""

    code = "E404"


class PayloadError(BundleError):
    """A blob is malformed or was changed."""

    code = "E405"


class SignatureError(BundleError):
    """The signatures' part is malformed, or a signature by a trusted key is wrong."""

    code = "E406"


class NoMatchError(BundleError):
    """None of the given keys opens this bundle."""

    code = "E407"


class TrustError(BundleError):
    """The bundle is well-formed, but the trust policy does not accept it: unsigned, unknown key, too old."""

    code = "E408"


class FormatVersionError(BundleError):
    """The bundle was written by a newer sdkpack than this one."""

    code = "E409"


class LimitError(BundleError):
    """A declared size, count, depth or cost is above the reader's limit."""

    code = "E410"


# E5xx: plugins ----------------------------------------------------------------------------------------------------
class PluginError(SdkpackError):
    """A plugin cannot be used."""

    code = "E501"
    exit_code = 5


class PluginMissingError(PluginError):
    """A recipe or bundle names something that no installed plugin provides."""

    code = "E502"


class PluginBrokenError(PluginError):
    """A plugin is installed but did not load, or broke its contract."""

    code = "E503"


# E6xx: gates ------------------------------------------------------------------------------------------------------
class GateError(SdkpackError):
    """A quality gate of the recipe is not met."""

    code = "E601"
    exit_code = 6


# E7xx: running ----------------------------------------------------------------------------------------------------
class InputError(SdkpackError):
    """An input of a run is not what the pipeline or model takes."""

    code = "E701"


class RunError(SdkpackError):
    """A model or operator failed while running."""

    code = "E702"


class NoFittingVariantError(SdkpackError):
    """No variant of a model fits this machine; `problems` names the unmet need of each."""

    code = "E703"


class DeadlineError(RunError):
    """A run was stopped because its deadline passed."""

    code = "E704"


# E9xx -------------------------------------------------------------------------------------------------------------
class InterruptedRunError(SdkpackError):
    """The user, or a cancel request, stopped the work."""

    code = "E900"
    exit_code = 130


class InternalError(SdkpackError):
    """A bug in sdkpack or a plugin."""

    code = "E901"
    exit_code = 3
