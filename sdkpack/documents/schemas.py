"""Writes the documents' JSON Schemas: `python -m sdkpack.documents.schemas [FOLDER]`.

Titles and descriptions come from the docstrings of classes and fields, read from the source: pydantic's own
`use_attribute_docstrings` would read it at each import of the documents.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sdkpack.documents.config import Config
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.manifest import Manifest
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.plan import Plan
from sdkpack.documents.recipe import Recipe
from sdkpack.documents.report import Report
from sdkpack.documents.shape import fields_of, members
from sdkpack.documents.trust import Trust

__all__ = ["DOCUMENTS", "schema_of", "schema_texts"]

DOCUMENTS: Final = (Recipe, Plan, Pipeline, Manifest, Evidence, Trust, Report, Config)
_VERSION: Final = 1
_ANY: Final = {"$ref": "#/$defs/JsonValue"}
_JSON_VALUE: Final = {
    "type": ["object", "array", "string", "number", "boolean"],
    "items": _ANY,
    "additionalProperties": _ANY,
}
"""Everything but null, at any depth."""


def schema_texts() -> Mapping[str, str]:
    """File name -> content, of every document; the same bytes at each call."""
    return {
        f"{model.word()}-v{_VERSION}.json": json.dumps(schema_of(model), indent=2, ensure_ascii=False) + "\n"
        for model in DOCUMENTS
    }


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document or part."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    if "JsonValue" in definitions:
        definitions["JsonValue"] = _JSON_VALUE
    classes = {each.__name__: each for each in _classes(model)}
    for name, definition in {**definitions, model.__name__: schema}.items():
        if name in classes:
            _describe(definition, classes[name])
        _tidy(definition)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sdkpack:schema:{model.__name__.lower()}-v{_VERSION}",
    }
    return head | schema | ({"$defs": dict(sorted(definitions.items()))} if definitions else {})


def _classes(model: type[BaseModel]) -> Iterable[type[BaseModel]]:
    seen: dict[type[BaseModel], None] = {}
    waiting: list[Any] = [model]
    while waiting:
        for branch in members(waiting.pop()):
            if isinstance(branch, type) and issubclass(branch, BaseModel) and branch not in seen:
                seen[branch] = None
                waiting += (fields_of(branch) or {}).values()
            else:
                waiting += getattr(branch, "__args__", ())
    return seen


def _describe(definition: dict[str, Any], model: type[BaseModel]) -> None:
    if model.__doc__:
        definition["description"] = inspect.cleandoc(model.__doc__)
    docs = _attribute_docs(model)
    for name, field in model.model_fields.items():
        if name in docs:
            definition["properties"][field.alias or name]["description"] = docs[name]


def _attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """The string that stands below a field says what the field is."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs: dict[str, str] = {}
    for pair in itertools.pairwise(body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                docs[name] = inspect.cleandoc(text)
    return docs


def _tidy(schema: Any) -> None:
    """Drops what says nothing (titles made from field names) and null, which no document has."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
        return
    if not isinstance(schema, dict):
        return
    if "patternProperties" in schema:
        schema["additionalProperties"] = False
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
        if "default" in field and field["default"] is None:
            del field["default"]
        branches = field.get("anyOf", [])
        if {"type": "null"} in branches:
            branches.remove({"type": "null"})
            if len(branches) == 1:
                del field["anyOf"]
                field.update({**branches[0], **field})
    for item in schema.values():
        _tidy(item)


def main(folder: Path) -> None:
    """Writes every schema into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_texts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas"))
