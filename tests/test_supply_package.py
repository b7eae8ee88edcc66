"""The wheel and the source archive: what is in them, and the demo from the wheel in an empty environment.

These ask the registry, for the build's tool and for all dependencies of a new environment: run them with
`uv run pytest -n 0 -m registry`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src"

UV = os.environ.get("UV") or shutil.which("uv")

pytestmark = [
    pytest.mark.registry,
    pytest.mark.skipif(UV is None, reason="there is no uv; `pip install uv` brings it"),
]

LARGEST = {"wheel": 1_000_000, "sdist": 4_000_000}
"""Bytes: twice today's, so that a data set or a run that slips in is found."""

JUNK = ("__pycache__", ".pyc", ".pytest_cache", ".hypothesis", ".ruff_cache", ".venv", "runs/", "dist/", ".git/", ".pt")


def uv(*arguments: object, folder: Path = REPOSITORY) -> None:
    """Runs uv, as from an ordinary shell; without the registry the test is skipped, and says so."""
    environment = {name: value for name, value in os.environ.items() if name not in CHANGES_PYTHON}
    command = [str(UV), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    if done.returncode == 2 and "Failed to fetch" in done.stderr:
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


CHANGES_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "UV_COMPILE_BYTECODE")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The wheel and the source archive, each built from the checkout."""
    out = tmp_path_factory.mktemp("built")
    for kind in ("wheel", "sdist"):
        uv("build", "--quiet", f"--{kind}", "--out-dir", out)
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def contents(built) -> dict[str, dict[str, bytes]]:
    """Kind -> path in the archive -> bytes; without the first folder of the source archive."""
    with zipfile.ZipFile(built["wheel"]) as wheel:
        found = {"wheel": {name: wheel.read(name) for name in wheel.namelist()}}
    with tarfile.open(built["sdist"]) as sdist:
        files = [(member, sdist.extractfile(member)) for member in sdist.getmembers()]
        found["sdist"] = {member.name.partition("/")[2]: file.read() for member, file in files if file}
    return found


def test_the_wheel_has_every_file_of_the_package_and_no_other(contents):
    """Recipes, templates, published splits and py.typed among them."""
    expected = {
        path.relative_to(SOURCE).as_posix(): path.read_bytes()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    own = {name: data for name, data in contents["wheel"].items() if ".dist-info/" not in name}
    assert own.keys() == expected.keys()
    assert own == expected
    for name in ("py.typed", "config/recipes/demo.yaml", "report/report.html.jinja", "data/published_splits.json"):
        assert f"semiseg/{name}" in own


def test_the_wheel_says_what_it_is(contents):
    info = {name.partition(".dist-info/")[2]: data for name, data in contents["wheel"].items()}
    assert info["licenses/LICENSE"] == (REPOSITORY / "LICENSE").read_bytes()
    assert b"semiseg = semiseg.cli.main:main" in info["entry_points.txt"]
    assert b"\nLicense-Expression: Apache-2.0\n" in info["METADATA"]
    assert b"Tag: py3-none-any" in info["WHEEL"]


def test_the_source_archive_is_what_is_committed(contents):
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, text=True, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no checkout of git")
    expected = set(tracked.stdout.split())
    there = {path for path in expected if (REPOSITORY / path).is_file()}
    assert contents["sdist"].keys() - {"PKG-INFO"} == there


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_no_junk_and_no_path_of_this_machine_is_packed(built, contents, kind):
    assert [name for name in contents[kind] if any(junk in name for junk in JUNK)] == []
    own = [f"{folder}/".encode() for folder in (REPOSITORY, Path.home(), Path(sys.prefix)) if folder != Path("/")]
    assert [name for name, data in contents[kind].items() if any(path in data for path in own)] == []
    assert built[kind].stat().st_size < LARGEST[kind]


def test_the_source_archive_builds_the_same_wheel(built, tmp_path):
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, built["sdist"], folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == built["wheel"].name
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, built["wheel"])]
    assert digests[0] == digests[1]


def test_the_lock_is_up_to_date():
    uv("lock", "--check")


def test_the_wheel_runs_the_demo_from_an_empty_environment(built, tmp_path):
    """With nothing but what the wheel asks for, in another folder: the command, its version, every module, the demo."""
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    uv("venv", "--quiet", "--python", sys.version.split()[0].rpartition(".")[0], environment, folder=tmp_path)
    python = environment / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, built["wheel"], folder=tmp_path)

    def run(*command: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name not in CHANGES_PYTHON}
        done = subprocess.run(command, cwd=elsewhere, env=clean, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    semiseg = str(environment / "bin" / "semiseg")
    version = built["wheel"].name.split("-")[1]
    assert run(semiseg, "--version").strip() == version
    walk = "import importlib, pkgutil, semiseg; print(semiseg.__file__); [importlib.import_module(m.name) for m in "
    walk += "pkgutil.walk_packages(semiseg.__path__, 'semiseg.') if not m.name.endswith('__main__')]"
    assert run(str(python), "-c", walk).startswith(str(environment))
    run(semiseg, "demo", "--steps", "4", "--out", "demo")
    assert "<html" in next((elsewhere / "demo").rglob("report.html")).read_text("utf-8")[:500]
