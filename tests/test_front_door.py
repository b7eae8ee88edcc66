"""What a Python user meets: train, a run, models, datasets and networks of one's own, registries that are open."""

import copy
import json
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support.tiny import batches, clock, optimizer_of, train_step
from support.tiny_run import tiny_config
from torch import nn

import semiseg
from semiseg.cli.main import main
from semiseg.config.registry import Registry
from semiseg.front import whole_names

ROOT = Path(__file__).parents[1]
QUIET = Console(quiet=True)
CLASSES = ("ground", "square")


@pytest.fixture(scope="module", autouse=True)
def threads():
    """One, whatever a recipe says."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "set_num_threads", lambda _: None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def registries():
    """What a test adds is taken out again."""
    opened = (semiseg.DATASETS, semiseg.NETWORKS, semiseg.METHODS)
    before = [set(registry) for registry in opened]
    yield
    for registry, names in zip(opened, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


class Net(nn.Module):
    """Half-size logits; `give` makes of them what the module returns."""

    def __init__(self, classes=2, give=lambda logits: logits):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(6, 5, 3, 1, 1), nn.BatchNorm2d(5), nn.Softplus())
        self.classifier = nn.Conv2d(5, classes, 1)
        self.give = give

    def forward(self, image):
        return self.give(self.classifier(self.head(self.encoder(image))))


def picture(seed):
    """A bright square, (32, 40, 3), and its mask."""
    mask = np.zeros((32, 40), np.uint8)
    mask[seed % 10 : seed % 10 + 15, 5:25] = 1
    noise = np.random.default_rng(seed).integers(0, 120, (32, 40, 3), dtype=np.uint8)
    return noise + 120 * mask[..., None], mask


def items(**changes):
    lists = {
        "labeled": [picture(seed) for seed in range(4)],
        "unlabeled": [picture(seed)[0] for seed in range(4, 10)],
        "val": [picture(seed) for seed in range(10, 13)],
    }
    return semiseg.Dataset.from_items(CLASSES, **(lists | changes))


def folder(root):
    """images/ and masks/, four images with and six without."""
    for seed, name in enumerate("abcdefghij"):
        image, mask = picture(seed)
        for part, array in {"images": image, **({"masks": mask} if seed < 5 else {})}.items():
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / part / f"{name}.png")
    return root


SMALL = {
    "method": "supervised", "batch_labeled": 2, "batch_unlabeled": 2, "crop_height": 32, "crop_width": 32,
    "channels": 8, "workers": 0, "threads": 1, "device": "cpu", "console": QUIET, "protocol": "whole",
}  # fmt: skip
"""Options of runs that take a second."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on files, by short names."""
    root = folder(tmp_path_factory.mktemp("photos"))
    return semiseg.train("folder", root=root, steps=3, run=root.parent / "run", **SMALL)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A run on arrays, with a wrapped network."""
    network = semiseg.wrap(Net(), features="head")
    path = tmp_path_factory.mktemp("given") / "run"
    options = SMALL | {"method": "prototype", "warmup": 0.4, "batch_labeled": 4}
    return semiseg.train("folder", dataset=items(), network=network, steps=20, run=path, **options)


# ---- train and the run ----


def test_short_names_reach_their_options(trained):
    config = trained.config
    assert (config.method, config.train.steps, config.augment.crop_width, config.evaluation.protocol) == (
        *("supervised", 3, 32, "whole"),
    )
    assert config.data.root.name.startswith("photos")
    assert trained.result["steps"] == 3


def test_a_run_is_a_path_that_predicts_scores_and_reports(trained):
    assert Path(trained) == trained.folder == trained.config.run
    image, _ = picture(3)
    labels, confidence = trained.predict(image)
    assert (labels.shape, labels.dtype, confidence.dtype) == ((32, 40), np.uint8, np.float32)
    assert ((confidence >= 0.5) & (confidence <= 1)).all()  # the larger of two
    scores = trained.evaluate("val", console=QUIET)
    assert scores["miou"] == trained.result["best"]["val"]["miou"]
    assert scores["miou"] == semiseg.evaluate(str(trained.folder), console=QUIET)["miou"]
    assert trained.report() == trained.folder / "report.html"


def test_a_path_a_picture_and_an_array_are_predicted_alike(trained):
    path = trained.config.data.root / "images/b.png"
    picture = Image.open(path)
    model = semiseg.load_model(str(trained.folder))
    expected = model.predict(np.asarray(picture))
    for image in (path, str(path), picture):
        for found, wanted in zip(semiseg.load_model(trained.folder / "model").predict(image), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert (trained.predict(path)[0] == expected[0]).all()


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 4), np.uint8), r"an array \(4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"an array \(4, 4, 3\) float32"),
        (torch.zeros(3, 4, 4), "a Tensor"),
    ],
)
def test_what_is_no_image_is_told(trained, image, got):
    with pytest.raises(ValueError, match=rf"the image is {got}; expected a path, a PIL image or an array \(H, W, 3\)"):
        trained.predict(image)


def test_windows_overrule_the_whole_image(trained):
    image, _ = picture(3)
    whole, windows = trained.model.predict(image)[1], trained.model.predict(image, window=16, stride=8)[1]
    assert whole.shape == windows.shape
    assert (whole != windows).any()
    with pytest.raises(ValueError, match="give --window too"):
        trained.model.predict(image, stride=8)


def test_a_run_predicts_as_its_model_does(trained):
    image, _ = picture(3)
    for found, wanted in zip(
        trained.predict(image, window=16, stride=8), trained.model.predict(image, window=16, stride=8), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_verdict_is_told(tmp_path, text):
    assert semiseg.Run(tmp_path).verdict is None
    (tmp_path / "verdict.json").write_text(text)
    with pytest.raises(ValueError, match=r"verdict\.json is damaged, or no result of semiseg"):
        _ = semiseg.Run(tmp_path).verdict


def test_mistakes_in_words_for_a_folder_are_told(tmp_path):
    root = folder(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"data\.vall: there is no such option; did you mean val\?"):
        semiseg.check(root, vall="val.txt")
    with pytest.raises(ValueError, match="--minutes is '3'; expected a number above 0"):
        semiseg.train(root, minutes="3", run=tmp_path / "run")
    with pytest.raises(semiseg.ConfigError, match="nor a file or folder of that name"):
        semiseg.train(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"minutes: for a training on a folder, and .*nowhere is none"):
        semiseg.train(tmp_path / "nowhere", minutes=3)


def test_an_unfinished_run_says_how_to_finish(tmp_path):
    with pytest.raises(ValueError, match=r"result\.json is not there: train to the last step, with resume=True"):
        _ = semiseg.Run(tmp_path).result


def test_a_config_takes_options_too_and_another_method_its_own(tmp_path):
    config = tiny_config(tmp_path / "run")
    run = semiseg.train(config, method="supervised", steps=1, evaluate_every=1, console=QUIET)
    assert run.folder == tmp_path / "run"
    assert (run.config.method, run.config.train.steps, run.config.seed) == ("supervised", 1, config.seed)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("steps", "train.steps"),
        ("root", "data.root"),
        ("seed", "seed"),  # not data.scenes.seed
        ("labeled", "data.labeled"),  # not data.scenes.labeled
        ("height", "data.scenes.height"),
        ("threshold", "method.threshold"),
        ("optim.momentum", "optim.momentum"),
        ("per_class", "prototypes.per_class"),
        ("prototypes", "prototypes"),
    ],
)
def test_a_last_part_names_the_option_with_the_fewest_parts(name, whole):
    assert whole_names({name: 5}, "prototype") == {whole: 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "ce"},
            r'kind may be loss\.kind, optim\.kind: give the whole name, as \*\*\{"loss\.kind": \.',
        ),
        ({"stepz": 5}, r"stepz: there is no such option; did you mean train\.steps\?"),
        ({"method": "supervised", "threshold": 0.5}, r"method\.threshold.*it belongs to --method"),
        ({"steps": "many"}, r"train\.steps is 'many'; expected a whole number"),
        ({"train.stepz": 5}, r"train\.stepz: there is no such option; did you mean train\.steps\?"),
    ],
)
def test_a_wrong_option_is_told_with_the_repair(options, message):
    with pytest.raises(semiseg.ConfigError, match=message):
        semiseg.train("demo", **options)


# ---- a dataset of one's own ----


def test_arrays_and_a_wrapped_network_are_learnt(given):
    config = given.config
    assert (config.data.dataset, config.network.name) == ("custom", "custom")
    assert given.result["classes"] == list(CLASSES)
    assert given.result["split"]["unlabeled"]["count"] == 6
    image, mask = picture(20)
    labels, _ = given.predict(image)
    assert (labels == mask).mean() > 0.8
    assert given.evaluate(console=QUIET)["miou"] == given.result["best"]["val"]["miou"] > 60
    assert "No pictures" in given.report().read_text()


def test_such_a_run_goes_on_only_with_what_it_was_given(given, tmp_path):
    copied = semiseg.Run(shutil.copytree(given.folder, tmp_path / "run"))
    (copied.folder / "result.json").unlink()
    config = semiseg.load_config(copied.folder / "config.yaml", {"run": copied.folder})
    again = semiseg.train(config, resume=True, console=QUIET, dataset=items(), network=given.network)
    assert again.result["last"] == given.result["last"]
    with pytest.raises(ValueError, match=r"data\.dataset is custom: .* Give it again as `dataset=`"):
        semiseg.train(config, resume=True, console=QUIET)
    with pytest.raises(ValueError, match=r"network\.name is custom: .* Give it again as `network=`"):
        semiseg.train(config, resume=True, console=QUIET, dataset=items())
    fewer = items(labeled=[picture(seed) for seed in range(3)])
    with pytest.raises(ValueError, match="the labeled images are not the images of the run"):
        semiseg.train(config, resume=True, console=QUIET, dataset=fewer, network=given.network)
    with pytest.raises(ValueError, match=r"of your own, which was given as an object: give it as load_model\("):
        copied.predict(picture(0)[0])
    with pytest.raises(ValueError, match=r"data\.dataset is custom"):
        copied.evaluate()


class Lazy:
    """Read when asked for; from paths, too."""

    def __init__(self, root):
        self.root = root

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.root / f"images/{'ab'[index]}.png", np.asarray(Image.open(self.root / f"masks/{'ab'[index]}.png"))


def test_items_may_be_read_late_and_from_paths(tmp_path):
    dataset = items(labeled=Lazy(folder(tmp_path)), test=[(Image.fromarray(picture(1)[0]), picture(1)[1])])
    for seed in range(2):
        np.testing.assert_array_equal(dataset.labeled.image(seed), picture(seed)[0])
        np.testing.assert_array_equal(dataset.labeled.mask(seed), picture(seed)[1])
    np.testing.assert_array_equal(dataset.test.image(0), picture(1)[0])
    assert len(set(dataset.colors)) == 2
    assert list(dataset.image_sets) == ["labeled", "unlabeled", "val", "test"]


IMAGE, MASK = picture(0)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (IMAGE, r"labeled item 0 is an array \(32, 40, 3\) uint8; expected a pair \(image, mask\)"),
        ((IMAGE, MASK.T), r"labeled mask 0 is an array \(40, 32\) uint8; expected .* shape \(32, 40\)"),
        ((IMAGE, MASK / 2), r"labeled mask 0 is an array \(32, 40\) float64; expected whole numbers"),
        ((IMAGE, MASK + 1), r"labeled mask 0 has the value 2; expected 0\.\.1 or 255 \(ignore\)"),
        ((IMAGE, MASK.astype(int) - 1), r"labeled mask 0 has the value -1"),
        ((IMAGE[..., 0], MASK), r"val image 0 has 3 band\(s\) of uint8, and labeled image \S+ 1 band of uint8"),
    ],
)
def test_a_wrong_item_is_told_before_anything_is_computed(tmp_path, pair, message):
    with pytest.raises(ValueError, match=message):
        semiseg.train("folder", dataset=items(labeled=[pair]), run=tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": [IMAGE]}, r"the dataset is a list; expected a semiseg\.Dataset"),
        ({"dataset": items(), "labeled": "l.txt"}, r"data\.labeled names images of files"),
        ({"dataset": items(unlabeled=()), "method": "cutmix"}, "there are no unlabeled images"),
        ({"dataset": "volder"}, r"data\.dataset is 'volder'; did you mean folder\? .*semiseg\.DATASETS first"),
        ({"dataset": items(), "network": Net()}, r"the network is a Net; expected a semiseg\.Segmentor.*semiseg\.wrap"),
        (
            {"dataset": items(), "network": semiseg.wrap(Net(3), features="head")},
            "the network has 3 classes and the dataset 2: give its last layer 2 channels",
        ),
        (
            {"dataset": items(), "network": semiseg.wrap(Net(), features="head"), "method": "cps"},
            r"cps trains several networks .* network=lambda: semiseg\.wrap",
        ),
        (
            {"dataset": items(), "network": semiseg.wrap(Net(), features="head"), "network.checkpoint": True},
            r"network\.checkpoint is for networks by name",
        ),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        semiseg.train("folder", run=tmp_path / "run", **(SMALL | options))


# ---- a network of one's own ----


def test_a_wrapped_network_gives_its_logits_at_the_images_size_and_its_features():
    module = Net(3).eval()
    network, image = semiseg.wrap(module, features="head"), torch.randn(2, 3, 33, 40)
    output = network(image)
    features = module.head(module.encoder(image))
    torch.testing.assert_close(output.features, features)
    expected = nn.functional.interpolate(module.classifier(features), (33, 40), mode="bilinear", align_corners=True)
    torch.testing.assert_close(output.logits, expected)
    assert (network.num_classes, network.feature_channels) == (3, 5)


@pytest.mark.parametrize(
    "give", [lambda logits: (logits, 1), lambda logits: {"out": logits, "aux": logits}], ids=["tuple", "dict"]
)
def test_logits_may_come_in_a_tuple_or_a_dict(give):
    network, image = semiseg.wrap(Net(give=give), features="head").train(), torch.randn(2, 3, 16, 16)
    output = network(image)
    assert output.logits.shape == (2, 2, 16, 16)
    assert (output.aux is None) == isinstance(network.module.give(1), tuple)
    assert network.eval()(image).aux is None


def test_copies_hear_their_own_features_and_an_exchanged_submodule_is_heard():
    network, image = semiseg.wrap(Net(), features="head.1").eval(), torch.randn(1, 3, 16, 16)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert network(image).features.abs().sum() > 0
    assert other(image).features.abs().sum() == 0
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)).eval()
    torch.testing.assert_close(synchronised(image).features, network(image).features)


def test_trying_a_module_changes_nothing_of_it():
    module = Net().train()
    module.head.eval()
    state, rng = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    semiseg.wrap(module, features="head")
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert (module.training, module.encoder.training, module.head.training) == (True, True, False)


@pytest.mark.parametrize(("encoder", "of_encoder"), [(None, "encoder"), ("head", "head"), ("head.0", "head.0")])
def test_the_encoder_learns_apart(encoder, of_encoder):
    module = Net()
    network = semiseg.wrap(module, features="head", encoder=encoder)
    named = {id(each): name for name, each in module.named_parameters()}
    first, rest = ({named[id(p)] for p in part()} for part in (network.encoder_parameters, network.head_parameters))
    assert first == {name for name in named.values() if name.startswith(f"{of_encoder}.")}
    assert first | rest == set(named.values())
    assert not first & rest


def test_without_an_encoder_everything_is_the_head():
    network = semiseg.wrap(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), features="0")
    assert network.encoder_parameters() == []
    assert len(network.head_parameters()) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: semiseg.wrap(Net(), features="haed"), r"Net has no submodule 'haed'; it has encoder, .*head"),
        (lambda: semiseg.wrap(Net(), features="head", encoder="body"), r"Net has no submodule 'body'"),
        (lambda: semiseg.wrap(Net(), features="head", classes=3), r"logits of 2 classes; expected 3"),
        (
            lambda: semiseg.wrap(Net(give=lambda x: x.mean((2, 3))), "head"),
            r"the module gave \(1, 2\); expected a t",
        ),
        (lambda: semiseg.wrap(Net(give=lambda x: {"a": x}), "head"), r"the module gave NoneType"),
        (lambda: semiseg.wrap(Net(), "head").compile(), r"train\.compile does not go with a wrapped network"),
    ],
)
def test_what_cannot_be_wrapped_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


PYRAMID = ("cct", "corrmatch", "pseudoseg", "unimatch", "unimatch_v2")


@pytest.mark.parametrize("name", semiseg.METHODS)
def test_every_method_takes_a_wrapped_network_or_says_what_it_lacks(name):
    keywords = {} if name == "supervised" else {"warmup": 0.0, "num_unlabeled": 8, "batch_unlabeled": 8}
    keywords |= {"total_steps": 10, "another": lambda: semiseg.wrap(Net(3), features="head")}
    if name in PYRAMID:
        with pytest.raises(ValueError, match=r"a wrapped Net has none: build semiseg\.Segmentor"):
            semiseg.METHODS[name](keywords["another"](), **keywords)
        return
    method = semiseg.METHODS[name](keywords["another"](), **keywords).train()
    before = copy.deepcopy(method.student.state_dict())
    result = train_step(method, optimizer_of(method), batches(size=(16, 20)), clock())
    assert result.loss.isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in method.student.state_dict().items())


def test_a_method_with_two_networks_takes_what_makes_them(tmp_path):
    options = SMALL | {"method": "cps", "warmup": 0.5}
    make = lambda: semiseg.wrap(Net(), features="head")  # noqa: E731
    run = semiseg.train("folder", dataset=items(), network=make, steps=2, run=tmp_path / "run", **options)
    assert run.predict(picture(0)[0])[0].shape == (32, 40)
    assert run.evaluate(console=QUIET)["miou"] == run.result["best"]["val"]["miou"]


def test_the_network_that_was_given_is_not_trained(tmp_path):
    network = semiseg.wrap(Net(), features="head")
    before = copy.deepcopy(network.state_dict())
    semiseg.train("folder", dataset=items(), network=network, steps=1, run=tmp_path / "run", **SMALL)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_another_network_than_that_of_the_model_is_told(given):
    with pytest.raises(ValueError, match="does not hold weights of the network that is given"):
        semiseg.load_model(given.folder, network=semiseg.wrap(nn.Sequential(nn.Conv2d(3, 2, 1)), features="0"))
    with pytest.raises(ValueError, match="the network is a Net; expected"):
        semiseg.load_model(given.folder, network=Net())


# ---- registries ----


def test_names_of_ones_own_work_from_load_config_and_the_command_line(tmp_path, capsys):
    semiseg.DATASETS["squares"] = lambda options: items()
    semiseg.NETWORKS["net"] = lambda options, classes: semiseg.wrap(Net(classes), features="head")
    semiseg.METHODS["halved"] = semiseg.methods.FixMatch
    names = {"data.dataset": "squares", "network.name": "net", "method": "halved"}
    config = semiseg.load_config("folder", names)
    assert (config.data.dataset, config.network.name, config.method) == tuple(names.values())
    keys = set(SMALL) - {"console", "method"}
    options = whole_names({key: SMALL[key] for key in keys}, "halved") | names | {"train.steps": 2}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    run = semiseg.Run(tmp_path / "run")
    assert main(["train", "folder", "--run", str(run.folder), *words]) == 0, capsys.readouterr().err
    assert main(["evaluate", str(run.folder)]) == 0
    assert "No pictures" not in (run.folder / "report.html").read_text()
    assert run.predict(picture(0)[0])[0].shape == (32, 40)
    about = json.loads((run.folder / "model/model.json").read_text())
    assert about["network"]["name"] == "net"
    del semiseg.NETWORKS["net"]
    with pytest.raises(ValueError, match=r"has a network 'net', unknown in this process: .* semiseg\.NETWORKS"):
        semiseg.load_model(run.folder)
    with pytest.raises(ValueError, match=r"network\.name is 'net'; .*Your own is added to semiseg\.NETWORKS first"):
        semiseg.evaluate(run)


@pytest.mark.parametrize(
    ("option", "wrong", "near"), [("data.dataset", "cityscape", "cityscapes"), ("network.name", "dtp", "dpt")]
)
def test_a_mistyped_name_is_told_by_the_command_line_without_torch(capsys, option, wrong, near):
    assert main(["train", "demo", f"--{option}", wrong]) == 2
    assert f"{option} is '{wrong}'; did you mean {near}?" in " ".join(capsys.readouterr().err.split())


def test_a_registry_keeps_the_names_whatever_adds_or_takes():
    names = ["a"]
    registry = Registry(names, {"a": 1, "b": 2})
    registry.update(c=3)
    registry.setdefault("d", 4)
    registry["a"] = 5
    assert names == list(registry) == ["a", "b", "c", "d"]
    registry.pop("b")
    del registry["c"]
    assert names == list(registry) == ["a", "d"]
    with pytest.raises(ValueError, match="'custom' is for objects that have none"):
        registry["custom"] = 1


# ---- examples and the page ----


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    assert len(path.read_text("utf-8").splitlines()) < 60
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / "run")])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    if share := re.search(r"([\d.]+)% of (a )?new image", last):
        assert float(share[1]) > 80
    else:
        first, again = map(float, re.findall(r"[\d.]+", last))
        assert first == again > 15


def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its code cells, in one namespace, as they stand; their output is committed."""
    path = ROOT / "examples/own_images.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    cells = notebook["cells"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert path.stat().st_size < 300_000
    coded = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in coded] == [*range(1, len(coded) + 1)]
    assert not [each for cell in coded for each in cell["outputs"] if each["output_type"] == "error"]
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", "".join("".join(cell["source"]) for cell in cells)):
        assert (path.parent / link).is_file(), link
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {"__name__": "__main__"}
    for cell in coded:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert names["run"].verdict["verdict"] in ("helped", "no reliable difference", "hurt")
    assert names["labels"].shape == (96, 128)
    assert len(names["suggestions"].chosen) == 4
    assert names["scores"]["scores"]["miou"]["value"] > 55  # all background: 40


def test_every_block_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """In their order, in one process, with two steps where the page has 2000."""
    (folder(tmp_path / "photos") / "val.txt").write_text("e\n")  # two trainings where folds would be many
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) > 8
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(re.sub(r"\b2000\b", "2", block), "docs/python.md", "exec"), names)
    assert "did you mean train.steps?" in capsys.readouterr().out
    assert names["labels"].shape == (32, 40)
    assert names["loss"].isfinite()
    assert (tmp_path / "runs/compare-folder/compare.html").is_file()
