"""Owns `python -m gateway`, which is the `waitroom` command."""

import sys

from gateway.cli import main

sys.exit(main())
