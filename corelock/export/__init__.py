"""A report for other programs; ``docs/json.md`` is the contract."""
