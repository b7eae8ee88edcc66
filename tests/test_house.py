"""The house rules that a syntax tree can tell: which way imports point, sizes, words and annotations."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import semiseg

SOURCE = Path(semiseg.__file__).parent

TIERS = (
    ("types", "config", "runtime"),
    ("parts",),
    ("methods", "networks", "data"),
    ("evaluation",),
    ("training",),
    ("report", "costs"),
    ("analysis",),
    ("studies",),
    ("cli", "front"),
)
"""Rooms of the house, lowest first: a file imports from lower floors, or from its own room."""

SEEN_BY_METHODS = {"types", "config", "parts", "methods"}
"""All that a method knows of: no file, no optimizer, no dataset."""

NO_SYNC = ("methods", "parts")
"""Rooms of the training step, in which nothing waits for the device."""

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
"""Dotted name below `semiseg` -> file."""

TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
MODULES = [name for name in FILES if name != "__init__"]  # the package's own names are imported when first used

Function = ast.FunctionDef | ast.AsyncFunctionDef


def room(module: str) -> str:
    return module.split(".")[0]


def tier(module: str) -> int:
    return next(number for number, rooms in enumerate(TIERS) if room(module) in rooms)


def imported(module: str) -> set[str]:
    """The package's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by dots; expected `from semiseg.{module} import ...`"
            parts = [node.module] if node.module != "semiseg" else [f"semiseg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            parts = [alias.name for alias in node.names]
        else:
            continue
        found |= {str(part).removeprefix("semiseg.") for part in parts if str(part).split(".")[0] == "semiseg"}
    return found


def functions(module: str) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, Function):
            yield f"{module}.{node.name}:{node.lineno}", node


def lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


# Imports --------------------------------------------------------------------------------------------------------------


def test_every_module_has_a_tier():
    rooms = [name for names in TIERS for name in names]
    assert sorted(rooms) == sorted({room(module) for module in MODULES})


def test_imports_point_down():
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imported(module)
        if room(other) != room(module) and tier(other) >= tier(module)
    ]
    assert wrong == []


def test_a_method_sees_no_file_config_or_optimizer():
    methods = [name for name in MODULES if room(name) == "methods" and "details" not in name]
    seen = {
        f"{name} sees {room(other)}"
        for name in methods
        for other in imported(name)
        if room(other) not in SEEN_BY_METHODS
    }
    assert len(methods) > 15
    assert seen == set()


def test_the_trainer_knows_no_method_dataset_or_network_by_name():
    assert {name for name in imported("training.trainer") if room(name) in ("methods", "data", "networks")} == {
        "methods.method"
    }


def test_the_package_and_the_command_line_are_there_without_torch():
    heavy = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "sklearn", "cv2", "matplotlib")
    code = f"import semiseg, semiseg.cli.main, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_exists_and_the_page_uses_it():
    assert [name for name in semiseg.__all__ if not hasattr(semiseg, name)] == []
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text("utf-8")
    assert [name for name in semiseg.__all__ if f"semiseg.{name}" not in page] == []


def loaded_by(statement: str, packages: tuple[str, ...]) -> str:
    """Which of `packages` a fresh interpreter has loaded behind `statement`."""
    code = f"{statement}; import sys; print([name for name in {packages} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_method_loads_no_network_library_and_no_file_reader():
    """The import order holds at run time, too: rooms of one floor do not know each other."""
    heavy = (
        "timm",
        "cv2",
        "sklearn",
        "huggingface_hub",
        "torchvision",
        "segmentation_models_pytorch",
        "matplotlib",
        "PIL",
    )
    assert loaded_by("import semiseg.methods", heavy) == "[]"
    assert loaded_by("import semiseg.parts.prototypes, semiseg.parts.augment", (*heavy, "semiseg.methods")) == "[]"
    assert loaded_by("import semiseg.networks", ("semiseg.methods", "semiseg.data", "cv2")) == "[]"
    assert loaded_by("import semiseg.data", ("semiseg.methods", "semiseg.networks", "timm")) == "[]"


def test_what_reads_options_loads_no_torch():
    assert loaded_by("import semiseg.config, semiseg.config.registry", ("torch", "numpy")) == "[]"


def test_data_are_read_and_told_of_without_torch():
    assert loaded_by("import semiseg.data, semiseg.training.start", ("torch", "torchvision", "timm", "sklearn")) == "[]"


def test_a_training_imports_what_it_needs_where_it_is_needed():
    heavy = ("timm", "torchvision", "torch._dynamo", "sklearn", "huggingface_hub", "segmentation_models_pytorch")
    assert loaded_by("import semiseg.training.experiment", (*heavy, "matplotlib", "scipy")) == "[]"


def test_few_files_lie_loose():
    assert sorted(path.name for path in SOURCE.glob("*.py")) == ["__init__.py", "front.py", "types.py"]


def test_tests_mirror_the_rooms_and_share_through_support():
    tests = Path(__file__).parent
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()}
    folders = {path.name for path in tests.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders - rooms == {"support", "faults"}  # faults are of the whole house
    wrong = [
        f"{path.name} imports {name}"
        for path in tests.rglob("*.py")
        for name in named_by_imports(path.read_text("utf-8"))
        if any(part.startswith("test_") for part in name.split("."))
    ]
    assert wrong == []


def named_by_imports(text: str) -> Iterator[str]:
    """Dotted names of all that a file imports: modules, and what is taken out of them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def test_every_way_to_import_a_test_is_noticed():
    ways = ("import test_a", "import parts.test_a as a", "from test_a import b", "from parts import test_a")
    ways += ("from .test_a import b", "from . import test_a", "from parts.test_a import b")
    for way in ways:
        assert any("test_a" in name.split(".") for name in named_by_imports(way)), way


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_no_file_is_long():
    texts = {name: path.read_text("utf-8").splitlines() for name, path in FILES.items()}
    assert {name: len(text) for name, text in texts.items() if len(text) > 300} == {}
    assert [name for name, text in texts.items() if max(map(len, text), default=0) > 120] == []


def test_functions_are_short():
    sizes = {name: lines(node) for module in FILES for name, node in functions(module)}
    assert len(sizes) > 300
    assert {name: size for name, size in sizes.items() if size > 60} == {}


def changed_arguments(node: Function) -> list[str]:
    """Where a function changes a tensor that it was given: `x.add_(1)` and `x[0] = 1`, not behind `x = x.clone()`."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    made = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    given = {argument.arg for argument in arguments} - {"self", "cls"} - made
    changed = []
    for each in ast.walk(node):
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AugAssign) else []
        )
        changed += [part.value for part in targets if isinstance(part, ast.Subscript)]
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and re.search("[^_]_$", each.func.attr):
            changed.append(each.func.value)
    return [f"{part.id}:{part.lineno}" for part in changed if isinstance(part, ast.Name) and part.id in given]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("x.add_(1)", ["x:1"]), ("x[0] = 1", ["x:1"]), ("x[0] += 1", ["x:1"]), ("return x.add(1)", []),
        ("x = x.clone(); x.add_(1)", []), ("y = x + 1; y.add_(1)", []), ("self.add_(1)", []), ("x.__len__()", []),
    ],
)  # fmt: skip
def test_every_change_of_an_argument_is_noticed(body, found):
    (node,) = ast.parse(f"def f(self, x): {body}").body
    assert isinstance(node, Function)
    assert changed_arguments(node) == found


def test_functions_that_change_their_arguments_end_in_an_underscore():
    wrong = {
        name: changed
        for module in FILES
        for name, node in functions(module)
        if not node.name.endswith("_") and (changed := changed_arguments(node))
    }
    assert wrong == {}


# Words ----------------------------------------------------------------------------------------------------------------


def public(module: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Classes, functions and methods that others may use."""
    for node in TREES[module].body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{module}.{node.name}", node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, Function) and not part.name.startswith("_"):
                    yield f"{module}.{node.name}.{part.name}", part


BASES = {
    node.name: [ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases]
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}
DOCUMENTED = {name.partition(".")[2] for module in MODULES for name, node in public(module) if ast.get_docstring(node)}
DOCUMENTED = {".".join(name.split(".")[-2:]) for name in DOCUMENTED}


def inherits(cls: str, method: str) -> bool:
    """Whether a class of this package above `cls` documents `method`: an override need not say it again."""
    return any(f"{base}.{method}" in DOCUMENTED or inherits(base, method) for base in BASES.get(cls, ()))


def test_public_names_are_documented():
    assert [module for module in FILES if not ast.get_docstring(TREES[module])] == []
    silent = [name for module in FILES for name, node in public(module) if not ast.get_docstring(node)]
    assert [name for name in silent if not inherits(*name.split(".")[-2:])] == []


def test_everything_is_annotated():
    missing = []
    for name, node in (pair for module in FILES for pair in functions(module)):
        arguments = node.args
        several = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *several]
        missing += [f"{name}({each.arg})" for each in every if not each.annotation and each.arg not in ("self", "cls")]
        missing += [f"{name} ->"] if node.returns is None else []
    assert missing == []


def test_the_step_does_not_wait_for_the_device():
    calls = [
        (name, node)
        for name in MODULES
        if room(name) in NO_SYNC
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call)
    ]
    assert len(calls) > 1000
    waits = [
        f"{name}:{call.lineno}"
        for name, call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "item"
    ]
    assert waits == []


def test_nothing_is_left_to_do_later():
    words = ["TO" + "DO", "FIX" + "ME", "X" * 3, "HACK"]
    files = [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.yaml"), *Path(__file__).parent.glob("*.py")]
    found = {path.name: [word for word in words if word in path.read_text("utf-8")] for path in files}
    assert {name: left for name, left in found.items() if left and name != Path(__file__).name} == {}


def test_no_file_is_a_drawer():
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [path.name for path in SOURCE.rglob("*.py") if path.name in drawers] == []
