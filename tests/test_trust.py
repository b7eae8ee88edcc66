"""What no line of the package may do, told by its syntax trees: run what a file says, or talk to anyone unasked."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import semiseg

SOURCE = Path(semiseg.__file__).parent
FILES = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py"))}

MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "runpy"),
    *("telnetlib", "ftplib", "smtplib", "xmlrpc", "sentry_sdk", "posthog", "analytics", "wandb", "mlflow"),
}
"""Not to be imported: they run what is in a file, or send what is not asked for."""

TALKS = {
    "requests": set(),
    "httpx": set(),
    "socket": {"runtime/lock.py", "studies/faults/kinds.py"},  # the machine's name
    "urllib.request": {"data/splits.py"},  # published lists of images
    "http.client": set(),
    "huggingface_hub": {
        "networks/encoders.py",  # first weights, by `--network.weights hub`
        "studies/own/measure.py",  # both look into the cache alone
        "studies/paper/missing.py",
    },
}
"""Module that can open a connection -> the files that import it."""

CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "tempfile.mktemp", "mktemp"),
    *("torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "yaml.unsafe_load", "yaml.full_load"),
    *("yaml.load_all", "yaml.full_load_all", "yaml.unsafe_load_all", "np.fromregex", "shutil.unpack_archive"),
    *("tarfile.extractall", "pd.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput", "jinja2.Template"),
}
"""Not to be called."""


def named(node: ast.expr) -> str:
    """A dotted name, as far as it is one."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def dangers(text: str) -> Iterator[str]:
    """Every line of a file that does what none may."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            name = named(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if (
                name in CALLS
                or name.endswith((".extractall", ".read_pickle"))
                or (name.endswith("torch.load") and words.get("weights_only") != "True")
                or (name == "load_state_dict" and words.get("weights_only") != "True")  # timm's reader of files
                or (name == "yaml.load" and (len(node.args) < 2 or ast.unparse(node.args[1]) not in SAFE_LOADERS))
                or words.get("shell", "False") != "False"
                or words.get("allow_pickle", "False") != "False"
                or words.get("trust_remote_code", "False") != "False"
                or (words.get("pretrained", "False") != "False" and "create_model" in name)
                or (words.get("encoder_weights", "None") != "None" and "create_model" in name)
                or (name.endswith("Environment") and "autoescape" not in words)
            ):
                yield f"{node.lineno}: {ast.unparse(node)[:80]}"


SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "_Loader"}


@pytest.mark.parametrize("name", FILES)
def test_nothing_runs_what_a_file_says(name):
    assert list(dangers(FILES[name])) == []


def test_the_one_loader_of_yaml_is_a_safe_one():
    from yaml import SafeLoader

    from semiseg.config import yaml_file

    assert issubclass(yaml_file._Loader, SafeLoader)
    assert [name for name, text in FILES.items() if "get_single_data(" in text] == ["config/yaml_file.py"]
    assert not [name for name, text in FILES.items() if "yaml.load" in text or "yaml.unsafe" in text]


@pytest.mark.parametrize("module", TALKS)
def test_only_the_files_that_fetch_what_was_asked_for_can_talk(module):
    users = {
        name
        for name, text in FILES.items()
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Import) and any(alias.name.startswith(module) for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module))
    }
    assert users <= TALKS[module]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("torch.load(path)", 1), ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0), ("load_state_dict(path)", 1),
        ("model.load_state_dict(state)", 0), ("yaml.load(text)", 1),
        ("yaml.load(text, yaml.Loader)", 1), ("yaml.load(text, yaml.SafeLoader)", 0), ("import pickle", 1),
        ("from pickle import loads", 1), ("import dill as d, os", 1), ("eval('1')", 1), ("model.eval()", 0),
        ("exec(code)", 1), ("subprocess.run('ls', shell=True)", 1), ("subprocess.run(['ls'])", 0),
        ("tempfile.mktemp()", 1), ("np.load(path, allow_pickle=True)", 1), ("np.load(path)", 0), ("os.system('ls')", 1),
        ("tar.extractall(out)", 1), ("timm.create_model(name, pretrained=True)", 1), ("timm.create_model(name)", 0),
        ("smp.create_model(kind, name, encoder_weights='imagenet')", 1), ("jinja2.Environment(loader=x)", 1),
    ],
)  # fmt: skip
def test_every_way_is_noticed(line, count):
    assert len(list(dangers(line))) == count
