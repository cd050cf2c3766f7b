"""What can be probed: names and patterns to places in code, events, their fields and arguments.

Nothing here attaches anything, or knows of BPF. Files and /sys are read, no mmap_lock is
waited for.
"""
