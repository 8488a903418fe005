"""Runs as one file, to be taken to another database.

A bundle is a zip archive of `bundle.json` (its version, who made it, and the sha256 of every other member),
`methods.jsonl`, `tasks.jsonl`, `suites.jsonl`, `stacks.jsonl` and `runs.jsonl` (a JSON object a line), and
`arrays/<sha256>.json`, a list each: ids, labels and predictions of test rows, named by the hash of their content.
Nothing in it is code, and nothing is unpickled. `format` says what may stand where, `writing` makes a bundle from a
database, `reading` checks one, `merging` brings it into a database.
"""
