"""A report as text for a terminal; :func:`corelock.render.report.render_text` is the way in."""
