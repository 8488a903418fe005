"""The claims of the papers as data, and what became of each.

`register.py` reads the claims from the TOML files beside it. A claim that arithmetic alone decides is judged at once
(`sums.py`, `confusion.py`, `counting.py`); a claim about training is a comparison (`comparisons.py`) of rows that a
suite makes, judged on the database (`evidence.py`, `intervals.py`). `evaluation.py` puts them together: claims and
evidence in, findings out; it trains nothing and writes nothing.
"""
