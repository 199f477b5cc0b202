"""`python -m vlmprompt`, and the command `vlmprompt`: signals first, then everything that takes time to import."""

from __future__ import annotations

import sys
from contextlib import suppress

from vlmprompt import signals


def run() -> int:
    """Run the command line of this process; gives its exit code."""
    try:
        with signals.stopping():
            from vlmprompt.cli.main import main

            return main()
    except KeyboardInterrupt:  # outside of what `main` watches over
        with suppress(OSError, AttributeError):  # AttributeError: it is closed
            sys.stderr.write("error: interrupted\n")
        return signals.exit_code()
    finally:
        signals.leave_alone()


if __name__ == "__main__":
    raise SystemExit(run())
