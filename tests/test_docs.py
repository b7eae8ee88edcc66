"""Every method has a page, and the page names what there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.recipe import load_config

REPOSITORY = Path(__file__).parent.parent
PAGES = REPOSITORY / "docs" / "methods"
LINKED = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *(path for folder in ("docs", "docs/methods", "benchmarks/notes") for path in (REPOSITORY / folder).glob("*.md")),
]


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", METHOD_OPTIONS)
def test_a_page_has_its_parts_and_names_every_option(name):
    text = page(name)
    assert text.startswith(f"# {name}\n")
    for part in ("Options", "Differences", "Cost", "Command"):
        assert re.search(rf"^## {part}", text, re.MULTILINE), part
    missing = [field.name for field in fields(METHOD_OPTIONS[name]) if f"`{field.name}`" not in text]
    assert missing == []


def test_the_section_prototypes_is_explained_once():
    names = [f"`prototypes.{field.name}`" for field in fields(PrototypesOptions)]
    assert [name for name in names if name not in page("README") or name not in page("prototype")] == []


@pytest.mark.parametrize("name", METHOD_OPTIONS)
def test_a_pages_commands_are_commands(name):
    found = re.findall(r"uv run semiseg train (\S+) (.*)", page(name))
    assert found
    for recipe, rest in found:
        words = rest.split()
        overrides = {key.removeprefix("--"): value for key, value in zip(words[::2], words[1::2], strict=True)}
        assert load_config(recipe, overrides).method == name


def test_there_is_no_page_of_a_method_that_is_not_there():
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(METHOD_OPTIONS)


def headings(path: Path) -> set[str]:
    """The headings of a page as they are linked to: lower case, hyphens for spaces, no other signs."""
    titles = re.findall(r"^#+ (.*)", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_links_lead_to_a_file_and_a_heading(path):
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", path.read_text("utf-8")):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not heading or heading in headings(target), link
