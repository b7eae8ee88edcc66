"""The network's options: names, layers, and crops that a ViT can cut into patches."""

import pytest

from semiseg.cli.main import main
from semiseg.config.network import NetworkOptions
from semiseg.config.recipe import ConfigError, load_config

DINO = {"network.name": "dpt", "network.encoder": "vit_small_patch14_dinov2"}


@pytest.mark.parametrize(
    ("side", "length", "repair"),
    [("height", 513, "504 or 518"), ("width", 799, "798 or 812"), ("height", 40, "make it a multiple, 42")],
)
def test_crops_that_are_no_multiple_of_the_patch_are_refused_with_the_nearest(side, length, repair):
    crop = {"augment.crop_height": 518, "augment.crop_width": 518} | {f"augment.crop_{side}": length}
    with pytest.raises(ConfigError, match=rf"augment\.crop_{side} is {length}, .*patches of 14 pixels.*{repair}"):
        load_config("voc-classic", DINO | crop)


def test_whole_patches_and_other_networks_are_not():
    load_config("voc-classic", DINO | {"augment.crop_height": 518, "augment.crop_width": 784})
    load_config("voc-classic", {"network.name": "smp:Unet", "network.encoder": "tu-coat_patch14"})


def test_layers_come_from_files_and_from_words():
    for given in ([2, 5, 8, 11], "2 5 8 11", "2,5,8,11"):
        assert load_config("demo", {"network.layers": given}).network.layers == (2, 5, 8, 11)
    assert load_config("demo", {"network.layers": "none"}).network.layers is None
    with pytest.raises(
        ConfigError, match=r"network\.layers is \[2, 5, 8\]; expected 4 values, each a whole number or none"
    ):
        load_config("demo", {"network.layers": [2, 5, 8]})


def test_an_unknown_network_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"network\.name is 'smp:upernet'; did you mean smp:UPerNet\?"):
        load_config("demo", {"network.name": "smp:upernet"})


def test_the_command_line_takes_layers_and_names(capsys, tmp_path):
    wrong = ["train", "demo", "--run", str(tmp_path / "run"), "--network.name", "dpt", "--network.encoder", "test_vit"]
    assert main([*wrong, "--network.layers", "2", "3", "4", "9"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "network.layers are (2, 3, 4, 9), but network.encoder test_vit has blocks 0 to 5" in said


def test_options_of_an_older_model_still_make_a_network():
    assert NetworkOptions(name="deeplabv3plus", aspp_rates=(1, 2, 3)).layers is None
