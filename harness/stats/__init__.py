"""What stored scores say: intervals, comparisons, ranks, fronts, curves, and where the next seed should go.

Arrays in, numbers out, with explicit random generators. Nothing in here reads a database, imports torch or trains.

    corpus, resampling   predictions of one task -> scores of every run, and how they covary over resampled examples
    estimates            the model: a mean over seeds and examples, its interval, its p-value
    cells, pairs, ranks  one cell, two rows, a whole table; friedman, profiles: the field's customary summaries
    efficiency           who is on the front of score against cost
    curves, budgets      score over training rows, and over the number of tuning trials
    sequential           what is decided after each look, and which trial decides most next

`docs/decisions/0005-statistics.md` says why the model is what it is, with the coverage that was seen.
"""
