"""Every method has a page; the commands of the pages are commands, and their links lead somewhere."""

import contextlib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
from cyclopts.exceptions import CycloptsError, MissingArgumentError

from semiseg.cli.main import build_app
from semiseg.cli.options import join_booleans
from semiseg.config.methods import METHOD_OPTIONS
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
def test_a_page_has_its_parts(name):
    text = page(name)
    assert text.startswith(f"# {name}\n")
    for part in ("Options", "Differences", "Cost", "Command"):
        assert re.search(rf"^## {part}", text, re.MULTILINE), part


def commands(path: Path) -> list[list[str]]:
    """The words behind `semiseg` of each command in a page's code blocks; a line that ends in a backslash goes on."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    return _words(re.findall(r"^ {4}(.*)$", text, re.MULTILINE))


def mentions(path: Path) -> list[list[str]]:
    """Likewise of the commands named in its sentences, which may leave out what is not their point."""
    prose = re.sub(r"^ {4}.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
    return _words(" ".join(span.split()) for span in re.findall(r"`([^`]*)`", prose))


def _words(lines: Iterable[str]) -> list[list[str]]:
    found = [re.search(r"(?:^|&& |uv run )semiseg (.+)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


OF_A_FOLDER = {"photos": "folder", "my_data": "folder", "runs/photos/recipe.yaml": "folder"}
EXAMPLES = {**OF_A_FOLDER, "RECIPE": "folder", "METHOD": "cutmix", "NAME": "cutmix", "TABLE": "table1", "SEED": "0"}
"""What may be typed for the capitals that stand for a name, and for a folder that readers have."""


def is_whole(tokens: list[str]) -> bool:
    """Whether it can be typed: no dots for what is left out, more than a verb."""
    return "..." not in tokens and (len(tokens) > 1 or tokens[0] in ("demo", "methods", "recipes", "bench"))


COMMANDS = [(path, tokens) for path in LINKED for tokens in commands(path) if is_whole(tokens)]
MENTIONS = [(path, tokens) for path in LINKED for tokens in mentions(path) if is_whole(tokens)]


def of_pages(pairs: list[tuple[Path, list[str]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "tokens", [pytest.param(tokens, id=f"{path.stem}: {' '.join(tokens)}") for path, tokens in pairs]
    )


def check(tokens: list[str]) -> None:
    """Parse as the command line does, without running; options of a training are then read as a run reads them."""
    words = join_booleans([EXAMPLES.get(token, token) for token in tokens])
    command, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    if command.__name__ in ("train", "estimate"):
        others = ("resume", "device", "minutes", "baseline", "guard")
        load_config(bound.args[0], {key: value for key, value in bound.kwargs.items() if key not in others})


@of_pages(COMMANDS)
def test_commands_of_the_pages_are_commands(tokens):
    check(tokens)


@of_pages(MENTIONS)
def test_commands_in_sentences_are_commands_but_for_what_is_left_out(tokens):
    if tokens[0] in ("train", "compare", "estimate") and tokens[1].startswith("--"):
        tokens = [tokens[0], "folder", *tokens[1:]]
    with contextlib.suppress(MissingArgumentError):
        check(tokens)


def test_commands_are_found():
    assert len(COMMANDS) > 60
    assert len(MENTIONS) > 10
    assert {tokens[0] for _, tokens in COMMANDS} >= {
        *(
            "train",
            "compare",
            "reproduce",
            "estimate",
            "evaluate",
            "predict",
            "report",
            "demo",
            "bench",
            "data",
            "analyse",
        ),
    }


@pytest.mark.parametrize("words", ["train folder --optim.lrr 1", "train folder --train.steps many", "trian folder"])
def test_what_is_no_command_is_noticed(words):
    with pytest.raises((CycloptsError, ValueError)):
        check(words.split())


@pytest.mark.parametrize("name", METHOD_OPTIONS)
def test_a_page_has_commands_of_its_method(name):
    trained = [tokens for tokens in commands(PAGES / f"{name}.md") if tokens[0] == "train" and is_whole(tokens)]
    named = [tokens[tokens.index("--method") + 1] for tokens in trained if "--method" in tokens]
    assert name in named


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
