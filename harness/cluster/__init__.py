"""Trials on a Ray cluster.

`machines` reaches it, `node_check` asks its nodes what they have, `ray_links` speaks with the workers on them.
"""
