"""The entry point: every way in which a verb can end, with its exit code.

click maps ^C, aborts and crashes all to 1; here they keep apart (see docs/errors.md).
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sdkpack.errors import FileError, InterruptedRunError, OutputError, SdkpackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    from sdkpack.cli.app import app

    as_json = "--json" in arguments
    try:
        # Without its standalone mode click returns what a verb exits with; verbs themselves return nothing.
        code = app.main(arguments, prog_name="sdkpack", standalone_mode=False)
        sys.stdout.flush()
        if isinstance(code, int):
            return code
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (`sdkpack inspect | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except click.UsageError as error:
        return _fail(_usage(error), as_json)
    except (KeyboardInterrupt, click.Abort):
        return _fail(InterruptedRunError("interrupted; nothing was left behind"), as_json)
    except SdkpackError as error:
        return _fail(error, as_json)
    except OSError as error:
        return _fail(_from_os(error), as_json)
    except Exception as error:
        return _fail(_bug(error, arguments), as_json)
    return 0


def _fail(error: SdkpackError, as_json: bool) -> int:
    if as_json:
        import json

        click.echo(json.dumps({"ok": False, "error": error.as_dict()}, indent=2, ensure_ascii=False))
    else:
        click.echo(f"error {error.code}: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def _usage(error: click.UsageError) -> SdkpackError:
    message = error.format_message()
    hint = f"see: {error.ctx.command_path} --help" if error.ctx and "see: " not in message else ""
    return UsageError(message[0].lower() + message[1:].removesuffix("."), hint=hint)


_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def _from_os(error: OSError) -> SdkpackError:
    where = str(error.filename or "")
    reason = (error.strerror or str(error)).lower()
    if error.errno in _WRITING:
        return OutputError(f"cannot write: {reason}", where=where, hint="free some space or name another place with -o")
    return FileError(reason, where=where)


def _bug(error: Exception, arguments: list[str]) -> SdkpackError:
    from sdkpack.cli.crash import write_crash_log
    from sdkpack.errors import InternalError

    log = write_crash_log(error, arguments)
    told: dict[str, Any] = {"hint": f"please report it with this log: {log}"} if log else {}
    return InternalError(f"a bug in sdkpack or a plugin: {type(error).__name__}: {error}", **told)
