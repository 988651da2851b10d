"""The console command of this release."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from importlib.resources import files
from typing import Any

from sdkpack.errors import SdkpackError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs the pipeline on each input file and prints what the publisher chose to show.

    Returns:
        0; 1 to 6: the exit code of an `SdkpackError`; 130: interrupted.
    """
    facts = json.loads((files(__package__) / "product.json").read_text("utf-8"))
    options = _parser(facts).parse_args(argv)
    try:
        return _run(facts, options)
    except SdkpackError as error:
        print(f"error {error.code}: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(facts: dict[str, Any], options: argparse.Namespace) -> int:
    module = sys.modules[str(__package__)]
    product = getattr(module, facts["class"])
    params = {name: getattr(options, name) for name in facts["params"]}
    with product(options.key, threads=options.threads) as session:
        for number, path in enumerate(options.input):
            result = getattr(session, facts["pipeline"])(**{facts["input"]: _read(path)}, **params)
            if options.json:
                print(json.dumps({"input": path} | _plain(result), ensure_ascii=False))
                continue
            if len(options.input) > 1:
                print(f"{'' if number == 0 else chr(10)}{path}:")
            for line in _shown(result, facts["show"]):
                print(line)
    return 0


def _read(path: str) -> bytes | str:
    return sys.stdin.buffer.read() if path == "-" else path


def _parser(facts: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=facts["command"], description=facts["summary"])
    parser.add_argument("input", nargs="+", metavar=facts["input"].upper(), help="a file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print everything, one JSON document an input")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that all models together may use")
    if facts["encrypted"]:
        parser.add_argument("--key", metavar="FILE", help=f"the key file; else ${facts['key_variable']} names it")
    else:
        parser.set_defaults(key=None)
    parser.add_argument("-V", "--version", action="version", version=f"{facts['command']} {facts['version']}")
    for name, spec in facts["params"].items():
        _add_param(parser, name, spec)
    return parser


def _add_param(parser: argparse.ArgumentParser, name: str, spec: dict[str, Any]) -> None:
    flag, default = f"--{name.replace('_', '-')}", spec["default"]
    text = spec.get("summary") or "a setting"
    if isinstance(default, bool):
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=default, help=text)
        return
    bounds = f", {spec['min']} to {spec['max']}" if "min" in spec and "max" in spec else ""
    parser.add_argument(
        flag,
        dest=name,
        type=type(default),
        default=default,
        choices=spec.get("choices"),
        help=f"{text}{bounds} (default {default})",
    )


def _shown(result: dict[str, Any], path: str) -> list[str]:
    """The lines to print: `lines.text` is the field `text` of every item of the output `lines`."""
    if not path:
        return [json.dumps(_plain(result), ensure_ascii=False, indent=2)]
    values: list[Any] = [result]
    for name in path.split("."):
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
        values = [value[name] for value in values]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item if isinstance(item, str) else json.dumps(_plain(item), ensure_ascii=False) for item in flat]


def _plain(value: Any) -> Any:
    """JSON values: arrays as nested lists, bytes as base64 text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


if __name__ == "__main__":
    sys.exit(main())
