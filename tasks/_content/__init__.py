"""The small world that the generated tasks and the starter backbones' pretraining text are about.

Not a plugin. Everything is drawn from `random.Random(seed)`, and every piece of content (who did what to
which thing, which numbers) belongs to exactly one of the splits "pretrain", "train" and "test"; see
`tasks._content.splits`.
"""
