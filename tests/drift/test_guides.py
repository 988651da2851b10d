"""Recipes in the guides are recipes; files that documents link to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdkpack.documents.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md"),
                *ROOT.glob("plugins/*/README.md"), ROOT / "sdkpack/bundle/FORMAT.md"])  # fmt: skip


def test_the_recipe_of_the_guide_is_a_recipe() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/recipes.md").read_text("utf-8"), re.DOTALL)
    recipe = Recipe.from_toml(block, where="docs/recipes.md")
    assert set(recipe.to_object()) == set(Recipe.model_fields), "the guide shows every section"


def test_the_sections_of_the_page_on_optimising_are_sections() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/optimizing.md").read_text("utf-8"), re.DOTALL)
    base = 'recipe = 1\nbundle = { name = "a", version = "1.0.0" }\ntargets.cpu.runtime = "b"\nmodels.net.source = "c.onnx"\n'
    recipe = Recipe.from_toml(base + block, where="docs/optimizing.md")
    optimize = recipe.models["net"].optimize
    assert optimize is not None
    assert (optimize.level, optimize.opset, optimize.strict) == ("max", 20, True)
    rows = (ROOT / "docs/optimizing.md").read_text("utf-8")
    names = {field.alias or name for name, field in type(optimize).model_fields.items()}
    assert {name for name in names if f"`{name}" in rows} == names, "the page tells every setting"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []
