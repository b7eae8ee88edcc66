"""The licences that installed packages declare; as a script, the table of all that the project depends on."""

import re
import tomllib
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""By their SPDX names: all allow use, change and sale in closed programs, for the names of the authors."""

SPELLINGS = {
    "3-clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",  # or the one of two clauses, which asks less
    "bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mit license": "MIT",
    "cmu license (mit-cmu)": "MIT-CMU",
    "python software foundation license": "PSF-2.0",
    "isc license (iscl)": "ISC",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "other/proprietary license": "LicenseRef-NVIDIA-Proprietary",
}
"""How licences are written in the older fields, in small letters."""

TEXTS = {
    "Apache-2.0": r"Licensed under the Apache License, Version 2\.0|Apache License\s+Version 2\.0, January 2004",
    "MIT": r"Permission is hereby granted, free of charge, to any person obtaining a copy",
    "BSD-3-Clause": r"Redistribution and use in source and binary forms, with or without",
}
"""What a licence's text is known by, for packages that name none in any field."""


class Terms(NamedTuple):
    """Of a package whose licence is not permissive: what it declares, and why it is a dependency all the same."""

    declared: frozenset[str]
    reason: str


NVIDIA = Terms(
    frozenset({"LicenseRef-NVIDIA-Proprietary"}),
    "not open source: CUDA's libraries, which torch's wheels for Linux ask for; torch for CPUs does without",
)
MOZILLA = frozenset({"MPL-2.0"})

EXCEPTIONS = {
    "nvidia-*": NVIDIA,
    "cuda-toolkit": Terms(frozenset(), "declares nothing: the list of CUDA's libraries, without a file of its own"),
    "tqdm": Terms(
        MOZILLA,
        "changes to its files stay open, which binds no program that calls it; the hub's library asks for it",
    ),
    "certifi": Terms(MOZILLA, "as tqdm: a list of certificates; asked for by older versions of the hub"),
    "hypothesis": Terms(MOZILLA, "as tqdm; for the tests alone"),
}
"""By name, or the beginning of a name."""

ELSEWHERE = {"colorama": "BSD-3-Clause", "httpx2-jsfetch": "BSD-3-Clause"}
"""Packages of the lock that only other systems than Linux get, with the licences that they declare."""

BUNDLED = {
    r"lib(avcodec|avformat|avutil|avdevice|avfilter|swscale|swresample)\b": "FFmpeg, LGPL-2.1-or-later",
    r"lib(gfortran|quadmath|gomp|gcc_s|stdc\+\+)\b": "GCC runtime, GPL-3.0-or-later WITH GCC-exception-3.1",
}
"""Shared libraries under a copyleft, by their file names, that wheels of a permissive licence carry along."""


def canonical(text: str) -> str | None:
    """The SPDX expression that a field states, or None."""
    spelling = SPELLINGS.get(text.strip().lower(), text.strip())
    try:
        return str(canonicalize_license_expression(spelling))
    except InvalidLicenseExpression:
        return None


def declared(package: Distribution) -> list[str]:
    """All SPDX expressions that a package states: by the field for them, else by the older fields, else by its text."""
    fields = package.metadata
    if expression := fields.get("License-Expression"):
        return [canonical(expression) or expression]
    classifiers = [text for text in fields.get_all("Classifier", []) if text.startswith("License ::")]
    stated = [fields.get("License", ""), *(text.rsplit(" :: ", 1)[-1] for text in classifiers)]
    # What is no name may be a whole text, which the classifier sums up; a classifier that is not known is a fault.
    found = [canonical(stated[0]), *(canonical(text) or text for text in stated[1:] if text != "OSI Approved")]
    if any(found):
        return sorted({expression for expression in found if expression})
    texts = [stated[0], *(file.read_text("utf-8") for file in package.files or () if is_licence(file.name))]
    return sorted(name for name, opening in TEXTS.items() if any(re.search(opening, text) for text in texts))


def is_licence(name: str) -> bool:
    return re.match(r"(?i)(licen[cs]e|copying)", name) is not None


def licences_of(expression: str) -> set[str]:
    """The single licences of an expression. Those of an `OR` all count: who adds such a package reads it."""
    return set(re.split(r" (?:AND|OR) ", expression.replace("(", "").replace(")", "")))


def terms(name: str) -> Terms | None:
    """Of a package by its canonical name: the exception made for it."""
    return next((terms for pattern, terms in EXCEPTIONS.items() if fnmatch(name, pattern)), None)


def fault(package: Distribution) -> str | None:
    """Why a package may not be depended on, with its name and what it declares, or None."""
    expressions = declared(package)
    exception = terms(canonicalize_name(package.name))
    allowed = PERMISSIVE | (exception.declared if exception else set())
    unknown = sorted(set().union(*map(licences_of, expressions)) - allowed)
    if not unknown and (expressions or exception):
        return None
    fields = package.metadata
    return (
        f"{package.name} {package.version}: {', '.join(unknown) or 'no licence that is known'}. It declares "
        f"License-Expression {fields.get('License-Expression')!r}, License {fields.get('License', '')[:80]!r}, "
        f"classifiers {[text for text in fields.get_all('Classifier', []) if text.startswith('License')]}. Expected a "
        "licence of PERMISSIVE in tests/support/licences.py, or a reason in EXCEPTIONS"
    )


def bundled(package: Distribution) -> list[str]:
    """What a package carries along under a copyleft."""
    names = [file.name for file in package.files or () if ".so" in file.name]
    return sorted(title for pattern, title in BUNDLED.items() if any(re.match(pattern, name) for name in names))


def dependencies() -> tuple[dict[str, Distribution], list[str]]:
    """All installed packages that the project leads to, by canonical name, and the names of those not installed.

    From the requirements of pyproject.toml with its extras and its group for the tests, as far as they hold here.
    """
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    waiting = [Requirement(text) for requirements in lists for text in requirements]
    packages, absent, seen = {}, set(), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                packages[name] = distribution(name)
            except PackageNotFoundError:
                absent.add(name)
                continue
            asked = [Requirement(text) for text in packages[name].requires or ()]
            # What the extra alone asks for; without an extra, what the package itself does.
            waiting += [r for r in asked if r.marker is None or r.marker.evaluate({"extra": extra})]
    return dict(sorted(packages.items())), sorted(absent)


def table() -> str:
    """All packages with their licences and the exceptions' reasons, in Markdown."""
    rows = ["| package | version | licence | remark |", "| --- | --- | --- | --- |"]
    for name, package in dependencies()[0].items():
        exception = terms(name)
        remarks = [exception.reason] if exception else []
        remarks += [f"the wheel contains {title}" for title in bundled(package)]
        rows.append(f"| {name} | {package.version} | {', '.join(declared(package)) or 'none'} | {'; '.join(remarks)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
