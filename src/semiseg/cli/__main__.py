"""`python -m semiseg.cli`, for launchers that start a module."""

import sys

from semiseg.cli.main import main

sys.exit(main())
