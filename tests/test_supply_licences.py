"""Every package that the project leads to declares a permissive licence, or is an exception with its reason."""

import tomllib
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.licences import BUNDLED, ELSEWHERE, PERMISSIVE, PROJECT, bundled, declared, dependencies, fault, terms

PACKAGES, ABSENT = dependencies()
LOCK = tomllib.loads((Path(__file__).parents[1] / "uv.lock").read_text("utf-8"))


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_every_licence_is_permissive_or_an_exception_with_a_reason():
    assert [line for package in PACKAGES.values() if (line := fault(package))] == []


def test_the_walk_reaches_what_is_installed_and_what_that_asks_for():
    extras = PROJECT["project"]["optional-dependencies"].values()
    tools = {"atheris", "pre-commit", "pyright", "ruff"}  # which the tests do without
    assert set(ABSENT) <= set().union(*map(names, extras)) | tools
    assert names(PROJECT["project"]["dependencies"]) <= set(PACKAGES)
    assert {"sympy", "joblib", "markupsafe", "filelock"} <= set(PACKAGES)


def test_packages_of_the_lock_for_other_systems_are_known_too():
    """A package that is not installed here has no metadata to be asked."""
    if all(package["version"] == PACKAGES[name].version for package, name in locked("torch")):
        missing = {package["name"] for package in LOCK["package"]} - set(PACKAGES) - set(ABSENT) - {"semiseg"}
        assert missing <= set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= PERMISSIVE
    assert set(ELSEWHERE) <= {package["name"] for package in LOCK["package"]}


def locked(name: str) -> list[tuple[dict, str]]:
    return [(package, name) for package in LOCK["package"] if package["name"] == name]


def test_no_dependency_that_users_are_given_by_name_is_an_exception():
    """Exceptions come along with others; the project itself asks for permissive packages alone."""
    own = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["lite"]]
    assert [name for name in names(own) if terms(name)] == []


def test_copyleft_libraries_inside_wheels_are_the_known_ones():
    carrying = {name for name, package in PACKAGES.items() if bundled(package)}
    assert carrying <= {"numpy", "opencv-python-headless", "scikit-learn", "scipy", "torch", "torchvision"}
    ffmpeg = next(title for title in BUNDLED.values() if "FFmpeg" in title)
    assert {name for name in carrying if ffmpeg in bundled(PACKAGES[name])} <= {"opencv-python-headless"}


# What is read, and refused ------------------------------------------------------------------------------------------

MIT_TEXT = "Copyright (c) A\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof"


def package(folder: Path, fields: str, files: dict[str, str] | None = None, name: str = "made-up") -> Distribution:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{fields}\n", "utf-8")
    for path, text in (files or {}).items():
        (info / path).write_text(text, "utf-8")
    (info / "RECORD").write_text("".join(f"{info.name}/{path},,\n" for path in files or {}), "utf-8")
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("fields", "files", "expected"),
    [
        ("License-Expression: MIT AND BSD-3-Clause", {}, ["MIT AND BSD-3-Clause"]),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", {}, ["Apache-2.0 WITH LLVM-exception"]),
        ("License: BSD", {}, ["BSD-3-Clause"]),
        ("License: Apache 2.0\nClassifier: License :: OSI Approved :: Apache Software License", {}, ["Apache-2.0"]),
        ("Classifier: License :: OSI Approved :: MIT License", {}, ["MIT"]),
        ("License: A long text\nClassifier: License :: OSI Approved :: BSD License", {}, ["BSD-3-Clause"]),
        ("License: UNKNOWN", {"LICENSE.txt": MIT_TEXT}, ["MIT"]),
        ("", {"COPYING": "Licensed under the Apache License, Version 2.0 (the"}, ["Apache-2.0"]),
        (f"License: {MIT_TEXT.splitlines()[-2]}", {}, ["MIT"]),
    ],
)
def test_every_way_to_declare_a_permissive_licence_is_read(tmp_path, fields, files, expected):
    made = package(tmp_path, fields, files)
    assert declared(made) == expected
    assert fault(made) is None


@pytest.mark.parametrize(
    ("fields", "files", "why"),
    [
        ("", {}, "no licence that is known"),
        ("License: UNKNOWN", {"LICENSE": "All rights reserved"}, "License 'UNKNOWN'"),
        ("License-Expression: GPL-3.0-only", {}, "GPL-3.0-only"),
        ("License-Expression: MIT AND LGPL-2.1-or-later", {}, "LGPL-2.1-or-later"),
        ("License-Expression: LicenseRef-NVIDIA-Proprietary", {}, "LicenseRef-NVIDIA-Proprietary"),
        ("License-Expression: MPL-2.0", {}, "MPL-2.0"),
        ("License-Expression: Our own", {}, "Our own"),
        ("License: AGPL-3.0", {}, "AGPL-3.0"),
        # A classifier that contradicts the field counts too.
        (
            "License: MIT\nClassifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            {},
            "GNU General Public License v3",
        ),
        ("Classifier: License :: Free for non-commercial use", {"LICENSE": MIT_TEXT}, "Free for non-commercial use"),
    ],
)
def test_what_is_not_permissive_is_refused_by_name(tmp_path, fields, files, why):
    line = fault(package(tmp_path, fields, files))
    assert line is not None
    assert line.startswith("made-up 1.0: ")
    assert why in line
    assert "EXCEPTIONS" in line


def test_an_exception_is_for_the_licence_it_was_made_for(tmp_path):
    assert fault(package(tmp_path, "License: MPL-2.0 AND MIT", name="tqdm")) is None
    (tmp_path / "later").mkdir()
    assert "GPL-3.0-only" in str(fault(package(tmp_path / "later", "License: GPL-3.0-only", name="tqdm")))
