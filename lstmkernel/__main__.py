"""``python -m lstmkernel``: the command line."""

from lstmkernel.cli import main

raise SystemExit(main())
