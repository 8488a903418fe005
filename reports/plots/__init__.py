"""One module for each kind of chart: a dataclass in, a `Chart` out."""
