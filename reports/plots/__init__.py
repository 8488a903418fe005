"""Plots: a view's or a statistic's dataclass in, a `Chart` out. The same input gives the same bytes.

Points and lines over two axes are described in Vega-Lite (`scatter`, `curves`); matrices, bars, ranks and the courses
of runs are written as SVG (`matrix`, `bars`, `ranks`, `course`): a run's page must not cost a chart engine's time.
"""
