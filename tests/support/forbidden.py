"""Files and folders that may not be read, also where the tests run as root."""

import os
from pathlib import Path


def forbid(monkeypatch, path):
    """From now on the system refuses `path` and all below it, as it refuses a user without permission."""

    def refusing(function):
        def call(target, *arguments, **options):
            if isinstance(target, str | Path) and Path(target).is_relative_to(path):
                raise PermissionError(13, "Permission denied", str(target))
            return function(target, *arguments, **options)

        return call

    for name in ("scandir", "stat"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(Path, "open", refusing(Path.open))
