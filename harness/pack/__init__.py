"""Many trials in one model: frozen weights are multiplied once, everything that learns stays apart.

`plan` groups trials without torch; `run` turns a group into runs. A `Slot` is one trial inside a pack, a `Block` the
trainable tensors of like trials, a `Stack` the modules that carry blocks of trials through the frozen model.
"""
