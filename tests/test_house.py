"""The house rules that a machine can check: which way imports point, sizes, names, annotations."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import semiseg

SOURCE = Path(semiseg.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

TIERS = [
    {"types", "options", "method_options", "option_types", "config", "distributed", "provenance"},
    {"checkpoint"},
    {
        "augment",
        "mixing",
        "sampling",
        "losses",
        "pseudo_labels",
        "metrics",
        "prototypes",
        "optim",
        "record",
        "progress",
    },
    {"data", "networks"},
    {"teacher"},
    {"methods"},
    {"predict", "model", "analysis"},
    {"evaluate"},
    {"trainer"},
    {"experiment", "inference"},
    {"report"},
    {"demo"},
    {"__init__", "cli"},
]
"""Lowest first; a room may use its own tier and those below it."""

METHOD_MAY_USE = {
    "types", "options", "method_options", "mixing", "losses", "pseudo_labels", "teacher", "prototypes", "sampling",
    "augment", "networks.segmentor", "methods",
}  # fmt: skip


def room(path: Path) -> str:
    """`data` for data/folder.py, `losses` for losses.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def tier(name: str) -> int:
    found = [number for number, names in enumerate(TIERS) if name in names]
    assert found, f"{name} has no tier: add it to TIERS"
    return found[0]


def imports(path: Path) -> set[str]:
    """What a file takes from the package, `data.dataset` and the like, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "semiseg":
            inside = node.module.removeprefix("semiseg").removeprefix(".")
            found |= {inside} if inside else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("semiseg.") for alias in node.names if alias.name.startswith("semiseg.")}
    return found


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]


def lines(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    own = tier(room(path))
    above = {used for used in imports(path) if tier(used.split(".")[0]) > own}
    assert not above, f"{name_of(path)} reaches up to {above}"


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=name_of)
def test_a_method_sees_no_file_config_or_optimizer(path):
    used = imports(path)
    foreign = {name for name in used if name not in METHOD_MAY_USE and name.split(".")[0] != "methods"}
    assert not foreign


def test_an_upward_import_would_be_seen(tmp_path):
    (tmp_path / "losses.py").write_text("def f():\n    from semiseg.trainer import Trainer\n")
    assert imports(tmp_path / "losses.py") == {"trainer"}
    assert tier("trainer") > tier("losses")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path):
    assert len(path.read_text("utf-8").splitlines()) <= 300
    long = [(function.name, lines(function)) for function in functions(path) if lines(function) > 60]
    assert not long


def test_functions_are_short():
    assert statistics.median(lines(function) for path in FILES for function in functions(path)) <= 12


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the file says what it is"
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert not public


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_is_annotated(path):
    bare = []
    for function in functions(path):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        arguments += [extra for extra in (function.args.vararg, function.args.kwarg) if extra]
        bare += [
            f"{function.name}({a.arg})" for a in arguments if a.annotation is None and a.arg not in ("self", "cls")
        ]
        bare += [function.name] if function.returns is None else []
    assert not bare


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_left_for_later(path):
    text = path.read_text("utf-8")
    assert path.name != "utils.py"
    assert not [word for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X") if word in text]


def test_no_step_reads_a_value_back():
    """`.item()` would make the device wait in every step."""
    rooms = {"methods", "mixing", "losses", "prototypes", "sampling", "teacher", "pseudo_labels", "augment"}
    assert not [name_of(path) for path in FILES if room(path) in rooms and ".item()" in path.read_text("utf-8")]


@pytest.mark.parametrize("module", ["semiseg", "semiseg.cli", "semiseg.config"])
def test_help_does_not_wait_for_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names_exist():
    for name in semiseg.__all__:
        assert getattr(semiseg, name) is not None
    with pytest.raises(AttributeError):
        semiseg.no_such_name  # noqa: B018
