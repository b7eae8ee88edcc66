"""The command line: what is handed to the experiment, what help lists, and what a mistake prints."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

import semiseg
from semiseg import studies as comparison
from semiseg.cli.main import main
from semiseg.cli.options import FIRST
from semiseg.config.fields import ConfigError, option_help, option_types
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.predicting import PredictOptions
from semiseg.config.recipe import load_config, shipped_recipes
from semiseg.runtime.files import write_error
from semiseg.runtime.stopping import SIGNALS, Stopped


@pytest.fixture
def calls(monkeypatch):
    """Stands in for the modules that need torch, and keeps what they are asked."""
    seen = []

    def keep(name, answer):
        return lambda *args, **kwargs: (seen.append((name, args, kwargs)), answer)[1]

    stands_in = {
        "training.start": SimpleNamespace(train=keep("train", Path("runs/x"))),
        "training.finished": SimpleNamespace(evaluate=keep("evaluate", {"miou": 0.5, "classes": {"sky": 0.25}})),
        "evaluation.segment": SimpleNamespace(
            predict_images=keep("predict_images", SimpleNamespace(count=3, failed={}, out=Path("masks")))
        ),
        "studies.demo": SimpleNamespace(demo=keep("demo", Path("out/report.html"))),
        "report": SimpleNamespace(
            write_report=lambda run: run / "report.html",
            doubts_of=lambda run: ["no pseudo-label ever taught"],
            closing=lambda run: [],
            write_comparison=keep("write_comparison", Path("all.html")),
            summary=lambda runs: "b against a: +1.0 mIoU",
        ),
    }
    for name, module in stands_in.items():
        stand_in(monkeypatch, f"semiseg.{name}", module)
    return seen


def stand_in(monkeypatch, name, module):
    """Let `import name` find `module`."""
    parent, _, leaf = name.rpartition(".")
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(import_module(parent), leaf, module, raising=False)


def enter(line):
    return main(line.split())


def trained(calls):
    """The config of the one call of `train`."""
    ((name, (config,), kwargs),) = calls
    assert name == "train"
    return config, kwargs


def words(text):
    """Help with its frames, line breaks and backticks taken out."""
    return " ".join(text.replace("│", " ").replace("`", "").split())


# What is handed on


def test_train_hands_on_the_recipe_with_what_was_typed(calls, capsys):
    options = "--data.labeled a.txt --steps 12 --optim.lr=1e-3 --network.aspp_rates 1 2 3 --seed 4 --run r"
    assert enter(f"train camvid {options}") == 0
    config, kwargs = trained(calls)
    assert (config.data.labeled, config.train.steps, config.optim.lr, config.seed) == ("a.txt", 12, 1e-3, 4)
    assert (config.network.aspp_rates, config.run) == ((1, 2, 3), Path("r"))
    assert (config.data.scale, config.network) == (0.5, replace(load_config("camvid").network, aspp_rates=(1, 2, 3)))
    assert kwargs == {"resume": False, "longer": True}
    assert capsys.readouterr().out == "Note: no pseudo-label ever taught\nruns/x/report.html\n"


def test_train_takes_a_method_with_its_options_and_resumes(calls):
    assert enter("train folder --method cutmix --method.threshold 0.25 --resume") == 0
    config, kwargs = trained(calls)
    assert config.method == "cutmix"
    assert config.method_options == replace(load_config("folder", {"method": "cutmix"}).method_options, threshold=0.25)
    assert kwargs == {"resume": True, "longer": True}


def test_options_may_come_before_the_recipe(calls):
    assert enter("train --seed 4 camvid") == 0
    assert (trained(calls)[0].recipe, trained(calls)[0].seed) == ("camvid", 4)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("--network.aux true", True),
        ("--network.aux=true", True),
        ("--network.aux", True),
        ("--network.aux false", False),
        ("--network.aux=false", False),
        ("--network.no-aux", False),
    ],
)
def test_booleans_are_words_or_flags(calls, typed, value):
    assert main(["train", "folder", *typed.split(), "--seed", "1"]) == 0
    assert (trained(calls)[0].network.aux, trained(calls)[0].seed) == (value, 1)


@pytest.mark.parametrize(("typed", "value"), [("disk", "disk"), ("off", "off"), ("true", "memory"), ("false", "off")])
def test_the_cache_has_a_name_and_takes_its_older_words(calls, typed, value):
    assert enter(f"train folder --data.cache {typed} --seed 1") == 0
    assert (trained(calls)[0].data.cache, trained(calls)[0].seed) == (value, 1)


def test_none_is_a_value(calls):
    assert enter("train camvid --data.val none --train.threads none --prototypes.grid none") == 0
    config, _ = trained(calls)
    assert (config.data.val, config.train.threads, config.method_options.prototypes.grid) == (None, None, None)


def test_evaluate_hands_on_its_options_and_prints_scores(calls, capsys):
    assert enter("evaluate runs/x --checkpoint last --set test --evaluation.protocol slide --evaluation.window 99") == 0
    evaluation = {"protocol": "slide", "window": 99}
    kwargs = {"checkpoint": "last", "subset": "test", "evaluation": evaluation, "root": None}
    assert calls == [("evaluate", (Path("runs/x"),), kwargs)]
    assert capsys.readouterr().out == "miou: 0.5\nclasses.sky: 0.25\n"


def test_evaluate_as_in_training_by_default(calls):
    assert main(["evaluate", "runs/x"]) == 0
    assert calls[0][2] == {"checkpoint": "best", "subset": "val", "evaluation": {}, "root": None}


def test_predict_and_demo(calls, capsys):
    assert enter("predict runs/x photos --out masks --objects --scales 0.5 1") == 0
    assert enter("demo --out there --steps 5 --seed 2") == 0
    assert main(["demo"]) == 0
    options = asdict(PredictOptions(objects=True, scales=(0.5, 1.0))) | {"model": None, "device": "auto"}
    assert calls == [
        ("predict_images", (Path("runs/x"), Path("photos"), Path("masks")), options),
        ("demo", (Path("there"), 5, 2), {}),
        ("demo", (Path("runs/demo"), None, 0), {}),
    ]
    assert "3 masks in masks/masks" in capsys.readouterr().out


def test_shards_are_written_and_indexed(monkeypatch, capsys):
    calls = []
    write = SimpleNamespace(write_shards=lambda *args, **kwargs: calls.append((args, kwargs)) or "abc")
    index = SimpleNamespace(index_shards=lambda *args: calls.append(args) or "ab")
    stand_in(monkeypatch, "semiseg.data.shards.write", write)
    stand_in(monkeypatch, "semiseg.data.shards.index", index)
    assert enter("data shard photos --out tars --shard-size 5000") == 0
    assert enter("data shard l.txt --out tars --root photos --images 7") == 0
    assert main(["data", "index", "my tars"]) == 0
    assert calls == [
        ((Path("photos"), Path("tars")), {"root": None, "shard_size": 5000, "images": None}),
        ((Path("l.txt"), Path("tars")), {"root": Path("photos"), "shard_size": None, "images": 7}),
        (Path("my tars"),),
    ]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "3 images in tars; train with --data.unlabeled_shards tars"
    assert out[2] == "2 images in my tars; train with --data.unlabeled_shards 'my tars'"


def test_report_of_one_run_and_of_several(calls, capsys):
    assert enter("report runs/a") == 0
    assert capsys.readouterr().out == "runs/a/report.html\n"
    assert enter("report runs/a runs/b --out all.html") == 0
    assert capsys.readouterr().out == "b against a: +1.0 mIoU\nall.html\n"
    ((name, (runs, out, _, verdict), _),) = calls
    assert (name, runs, out) == ("write_comparison", [Path("runs/a"), Path("runs/b")], Path("all.html"))
    assert verdict == "b against a: +1.0 mIoU"


def test_analyses_hand_on_what_all_of_them_ask_and_what_is_their_own(monkeypatch):
    seen = []
    functions = {
        name: (lambda *args, _name=name, **kwargs: seen.append((_name, args, kwargs)) or {"rows": []})
        for name in ("discriminate", "embed", "picture")
    }
    stand_in(monkeypatch, "semiseg.analysis", SimpleNamespace(**functions))
    given = "--data.root d --label x --label y --set test --checkpoint best"
    assert enter(f"analyse discrimination a b {given} --pixels all") == 0
    assert enter("analyse embedding a --out o --classes 1,2") == 0
    assert enter("analyse pictures a b --rule consistency --count 3") == 0
    plain = {"root": None, "labels": None, "subset": "val", "checkpoint": "last"}
    typed = {"root": Path("d"), "labels": ["x", "y"], "subset": "test", "checkpoint": "best"}
    a, b = Path("a"), Path("b")
    assert seen == [
        ("discriminate", ([a, b], a / "analysis"), {**typed, "pixels": None, "seed": 0}),
        ("embed", ([a], Path("o")), {**plain, "classes": ["1", "2"], "pixels": 500, "seed": 0}),
        ("picture", ([a, b], a / "analysis"), {**plain, "rule": "consistency", "count": 3}),
    ]


def test_compare_hands_on_a_grid_and_tells_of_what_is_missing(monkeypatch, capsys):
    calls = []
    stands_in = SimpleNamespace(
        run_study=lambda study, jobs: calls.append((study, jobs)) or "result",
        require_all=lambda result: calls.append(result),
    )
    monkeypatch.setitem(sys.modules, "semiseg.studies.run", stands_in)
    monkeypatch.setattr(comparison, "run", stands_in, raising=False)
    line = "compare demo --methods cutmix,prototype --labeled 5,6 --seeds 0,2 --steps 9 --jobs 3 --out there"
    assert enter(f"{line} --method.strong true --data.cache false --network.aspp_rates 1 2 3") == 0
    (study, jobs), result = calls
    assert (jobs, result) == (3, "result")
    assert [row.method for row in study.rows] == ["supervised", "cutmix", "prototype"]
    assert (study.labels, study.seeds) == (("5", "6"), (0, 2))
    config = study.cells[-1].config
    assert (config.train.steps, config.data.cache, config.network.aspp_rates) == (9, "off", (1, 2, 3))
    assert (config.method, config.seed, config.method_options.strong) == ("prototype", 2, True)
    assert config.run_folder == Path("there/6-prototype-seed2")


def test_methods_and_recipes_are_listed(capsys):
    assert main(["methods"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(METHOD_OPTIONS)
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(shipped_recipes())
    assert "CamVid: driving scenes, 11 classes" in out


# Help


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_help_lists_every_option_of_the_method_with_its_docstring(capsys, monkeypatch, method):
    monkeypatch.setenv("COLUMNS", "400")  # an option and all of its text on one line
    assert main(["train", "--method", method, "--help-all"]) == 0
    out = capsys.readouterr().out
    for key in option_types(method):
        assert key == "recipe" or f"--{key} " in out, key
    for key, text in option_help(method).items():
        (line,) = (line for line in out.splitlines() if f"│ --{key} " in line or f"│ * --{key} " in line)
        assert words(text) in words(line), key
    others = {key for name in METHOD_OPTIONS for key in option_types(name)} - set(option_types(method))
    assert not [key for key in others if f"--{key} " in out]


@pytest.mark.parametrize("command", ["train", "estimate"])
def test_help_shows_what_people_change_first_on_one_screen(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    assert main([command, "folder", "--help"]) == 0
    out = capsys.readouterr().out
    shown = [key for key in option_types("prototype") if f"--{key} " in out]
    first = [key for keys in FIRST.values() for key in keys]
    assert len(first) == 15
    assert sorted(shown) == sorted(first)
    assert [line.split()[1] for line in out.splitlines() if line.startswith("╭")][-4:] == list(FIRST)
    assert "--help-all" in out
    assert len(out.splitlines()) < 50


def test_help_for_a_method_that_was_typed_adds_its_own_options(capsys):
    assert main(["train", "folder", "--method", "u2pl", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"--{key} " in out for key in option_types("u2pl") if key.startswith(("method.", "prototypes")))
    assert "--optim.power" not in out


@pytest.mark.parametrize("command", ["compare demo", "reproduce table1", "evaluate runs/x"])
def test_other_commands_too_show_few_options_first_and_all_when_asked(capsys, command):
    rare = "--evaluation.windows_at_once"
    assert enter(f"{command} --help") == 0
    assert rare not in capsys.readouterr().out
    assert enter(f"{command} --help-all") == 0
    assert rare in capsys.readouterr().out


def test_what_is_of_several_methods_has_its_type_where_they_agree(capsys):
    assert enter("compare folder --method.threshold many") == 2
    assert 'Invalid value for --method.threshold: unable to convert "many" into float.' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train demo --method.grid 3", "--method.grid: this method has no such option; it is now prototypes.grid"),
        (
            "train demo --method.momentum 0.9",
            "--method.momentum: there is no such option; it is now prototypes.momentum",
        ),
        ("train demo --method.temperature 2", "it is now prototypes.temperature"),
        ("train demo --method u2pl --method.prototypes true", "it is now prototypes (true or false)"),
        ("train demo --method cutmix --method.temperature 2", "it belongs to --method pseudoseg or pc2seg or u2pl"),
        ("train demo --loss.slices 2", "--loss.slices: there is no such option; it saved 0.7 of 18 GB and is gone"),
        ("compare --methods all", 'Command "compare" parameter RECIPE requires an argument'),
        (
            "train demo --method cutmix --prototypes.grid 3",
            "--prototypes.grid: this method has no such option; it belongs",
        ),
        ("compare demo --train.devices 2", "--train.devices: a run here has one device; --jobs says how many run"),
        ("compare demo --devices 2", "--devices: a run here has one device; --jobs says how many run at a time"),
        ("reproduce table4 --devices 2", "--devices: a run here has one device; --jobs says how many run at a time"),
    ],
)
def test_what_was_called_otherwise_is_answered_with_its_name(capsys, line, message):
    assert enter(line) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("line", ["train demo --help-all", "methods", "reproduce table1 --scale cpu --plan"])
def test_a_reader_that_has_enough_is_no_mistake(line):
    """As with `| head`, where the reader has gone before the first line."""
    command = f"(env -u PYTHONUNBUFFERED {sys.executable} -m semiseg.cli {line}; echo $? >&2) | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr.split() in (["1"], ["141"])  # 1 is rich's, which prints the help


def test_a_broken_pipe_that_is_not_the_outputs_keeps_its_traceback(monkeypatch, capsys):
    failing(monkeypatch, BrokenPipeError("a loader's"))
    with pytest.raises(BrokenPipeError):
        main(["train", "folder"])


def test_help_shows_the_recipes_values(capsys):
    enter("train cityscapes --help-all")
    cityscapes = words(capsys.readouterr().out)
    enter("train cityscapes --preset=paper --help-all")
    paper = words(capsys.readouterr().out)
    assert "(Table 7). [default: 0.65]" in cityscapes
    assert "(Table 7). [default: 0.8]" in paper
    assert "[default: 34800]" in cityscapes
    assert "[default: 12 24 36]" in cityscapes


def test_evaluate_help_names_its_options(capsys):
    main(["evaluate", "--help-all"])
    out = words(capsys.readouterr().out)
    assert all(
        f"--{key} " in out
        for key in option_types("supervised")
        if key.startswith("evaluation.") and key != "evaluation.hidden"
    )
    assert "--set CHOICE" in out
    assert "[default: the run's]" in out


# Mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian folder", 'Unknown command "trian". Did you mean "train"?'),
        ("train", "RECIPE"),
        ("train foldr", "there is no recipe 'foldr', nor a file or folder of that name; did you mean folder?"),
        ("train folder --data.labled a", "Unknown option: --data.labled. Did you mean --data.labeled?"),
        ("train folder --train.step 5", "Did you mean --train.steps?"),
        ("train folder --train.steps many", 'Invalid value for --train.steps: unable to convert "many" into int.'),
        (
            "train folder --network.output_stride 9",
            'Invalid value "9" for --network.output_stride. Choose from: 8, 16, 32.',
        ),
        ("train folder --method protoype", "there is no method 'protoype'; did you mean prototype?"),
        ("train folder --method", "there is no method ''"),
        (
            "train folder --method cutmix --method.grid 3",
            "--method.grid: this method has no such option; it belongs to",
        ),
        ("train folder --preset gpus", "there is no preset 'gpus'; did you mean gpu?"),
        ("train folder --data.scale 9", "data.scale is 9.0; expected 0 < scale <= 4 (in "),
        ("train folder --data.cache maybe", "maybe"),
        ("compare folder --methods cutmx", "--methods: there is no method 'cutmx'; did you mean cutmix?"),
        ("compare folder --seed 3", "Unknown option: --seed. Did you mean --seeds?"),
        ("compare folder --steps many", 'Invalid value for --steps: unable to convert "many" into int.'),
        ("compare folder --method.treshold 1", "Did you mean --method.threshold?"),
        ("compare folder --methods supervised --method.threshold 1", "none of the compared methods has such an option"),
        ("compare folder --labeled 3 --data.root no/such", "data.root is no/such, which is no folder"),
        ("evaluate runs/x --set tset", 'Invalid value "tset" for --set. Choose from: "val", "test".'),
        ("evaluate runs/x --evaluation.protocl slide", "Did you mean --evaluation.protocol?"),
        ("predict runs/x", "WHAT"),
        ("data shard photos", "--out"),
        ("data shrad photos", 'Unknown command "shrad". Did you mean "shard"?'),
        ("data index no/such/folder", "no .tar files in no/such/folder"),
    ],
)
def test_a_mistake_is_told_with_its_repair_and_starts_nothing(calls, capsys, line, message):
    assert enter(line) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("semiseg: error: ")
    assert message in captured.err
    assert not captured.out
    assert not calls


def failing(monkeypatch, error):
    def train(config, resume, longer):
        raise error

    stand_in(monkeypatch, "semiseg.training.start", SimpleNamespace(train=train))
    return train


def test_a_missing_file_is_told_without_traceback(monkeypatch, capsys):
    failing(monkeypatch, FileNotFoundError("no file a.txt"))
    assert main(["train", "folder"]) == 2
    assert capsys.readouterr().err == "semiseg: error: no file a.txt\n"


def test_a_value_error_of_this_package_is_told_and_one_from_elsewhere_keeps_its_traceback(monkeypatch, capsys):
    train = failing(monkeypatch, ConfigError("this and that"))
    with pytest.raises(ConfigError):  # raised in this file, which is not the package
        main(["train", "folder"])
    monkeypatch.setitem(train.__globals__, "__name__", "semiseg.data.sets.folder")
    assert main(["train", "folder"]) == 2
    assert capsys.readouterr().err == "semiseg: error: this and that\n"


@pytest.mark.parametrize("error", [AssertionError("ours"), RuntimeError("CUDA"), KeyError("x")])
def test_other_errors_are_not_swallowed(monkeypatch, error):
    failing(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["train", "folder"])


def test_a_stopped_training_tells_how_to_go_on(monkeypatch, capsys):
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["train", "folder", "--data.root", "my photos"]) == 130
    assert "semiseg train folder --data.root 'my photos' --resume\n" in capsys.readouterr().err
    assert main(["train", "folder", "--resume"]) == 130
    assert "semiseg train folder --resume\n" in capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
def test_the_exit_status_tells_the_signal(monkeypatch, capsys, number):
    failing(monkeypatch, Stopped(number))
    assert main(["train", "folder"]) == 128 + number
    assert "semiseg train folder --resume\n" in capsys.readouterr().err


def test_a_full_disk_tells_how_to_go_on(monkeypatch, capsys):
    failing(monkeypatch, write_error(Path("runs/x/last.pt"), OSError(28, "No space left on device")))
    assert main(["train", "folder"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("semiseg: error: runs/x/last.pt cannot be written: No space left on device. What it held")
    assert " MB are free in " in error
    assert "semiseg train folder --resume\n" in error


# The process as the user starts it


def run(*arguments):
    """`python -X importtime -m semiseg.cli ...`: its status, output, own errors, and the modules imported."""
    command = [sys.executable, "-X", "importtime", "-m", "semiseg.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"})
    lines = done.stderr.splitlines()
    modules = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    errors = [line for line in lines if not line.startswith("import time:")]
    return done.returncode, done.stdout, errors, modules


SLOW = {"torch", "torchvision", "timm", "cv2", "sklearn", "numpy"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["train", "voc-classic", "--method", "cutmix", "--help"], 0),
        (["compare", "--help"], 0),
        (["analyse", "--help"], 0),
        (["analyse", "pictures", "--help"], 0),
        (["compare", "folder", "--help"], 0),
        (["methods"], 0),
        (["recipes"], 0),
        (["train", "folder", "--data.labled", "x"], 2),
        (["train", "folder", "--data.scale", "9"], 2),
        (["compare", "folder", "--methods", "protoype"], 2),
        (["compare", "folder", "--methods", "cutmix", "--data.labled", "x"], 2),
    ],
)
def test_help_lists_and_mistakes_answer_without_the_slow_libraries(arguments, status):
    code, out, errors, modules = run(*arguments)
    assert code == status
    assert "semiseg.config.recipe" in modules  # or the modules were not read from the report
    assert not SLOW & modules
    assert bool(out) == (status == 0)
    assert len(errors) == (status == 2), errors
    assert all(line.startswith("semiseg: error: ") for line in errors)


def test_importing_the_package_imports_no_torch():
    code = "import sys, semiseg; semiseg.load_config('demo'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_public_names_all_resolve():
    assert all(getattr(semiseg, name) is not None for name in semiseg.__all__)
    assert set(semiseg.__all__) <= set(dir(semiseg))
    with pytest.raises(AttributeError, match="no public name 'trian'; it has DATASETS"):
        semiseg.trian  # noqa: B018


def test_another_commands_option_is_not_called_another_methods(capsys):
    assert main(["demo", "--train.steps", "5"]) == 2
    assert "method" not in capsys.readouterr().err


def test_what_the_system_says_of_a_file_is_no_traceback(tmp_path, capsys, calls, monkeypatch):
    def taken(*_: object, **__: object) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "file/masks").mkdir()

    from semiseg.evaluation import segment as inference  # the one that stands in

    monkeypatch.setattr(inference, "predict_images", taken)
    assert main(["predict", "run", "images", "--out", "masks"]) == 2
    assert "file/masks" in capsys.readouterr().err
