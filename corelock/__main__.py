"""``python -m corelock``, for where the command is not on the path (``sudo`` has its own)."""

from corelock.cli import main

if __name__ == "__main__":
    main()
