"""What can be chosen, without torch: options, recipes, and how words become a `Config`."""

from semiseg.config.recipe import Config, load_config, save_config

__all__ = ["Config", "load_config", "save_config"]
