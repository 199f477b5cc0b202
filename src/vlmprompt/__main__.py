"""`python -m vlmprompt`."""

from vlmprompt.cli.main import main

raise SystemExit(main())
