"""What people read: tables in the terminal, in Markdown and on the site, and the charts beside them.

One way only: rows (`rows.py`) -> views (`views.py`) -> charts and templates (`charts.py`, `site.py`). The
chart and the table are made from the same view. Nothing in here imports torch.
"""
