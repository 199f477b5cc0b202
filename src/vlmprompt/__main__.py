"""`python -m vlmprompt`, and the command `vlmprompt`: signals first, then everything that takes time to import."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

from vlmprompt import signals


def run() -> int:
    """Run the command line of this process; gives its exit code."""
    try:
        with signals.stopping(_say_goodbye):
            from vlmprompt.cli.main import main

            return main()
    except KeyboardInterrupt:  # outside of what `main` watches over
        _say_goodbye()
        return signals.exit_code()
    finally:
        signals.leave_alone()
        # `python -m` ends by SIGINT, in place of this code, if Ctrl-C ever came in code that was run as a text; a
        # library may do so, and running another one is what makes Python forget it.
        exec("")
        # At its end Python looks for garbage among all that torch has made, for a third of a second. The process ends,
        # and all of it goes anyway.
        gc.freeze()
        if "--json" in sys.argv:  # what exit handlers and C libraries still bring out does not follow the document
            with suppress(OSError):
                os.dup2(2, 1)


def _say_goodbye() -> None:
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")


if __name__ == "__main__":
    raise SystemExit(run())
