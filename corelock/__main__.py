"""Where ``corelock`` and ``python -m corelock`` begin; the latter for where the command is not on
the path (``sudo`` has its own)."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point of the ``corelock`` executable."""
    # Not where a script has it ignored, as of a job in the background.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _interrupted)
    try:
        from corelock.cli import main as run

        run()
    finally:
        # It ends; what Python does then must not be broken into by an exception.
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(number: int, frame: object) -> None:
    """Ctrl-C where nothing has been measured yet: without a word, as it ends any program.

    What a command has begun is undone on the way. Once it measures, ``cli.run`` is asked.
    """
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
