"""``corelock top``: what a live view shows (``board``), and the terminal it is shown on (``app``).

All but ``app`` is without textual.
"""
