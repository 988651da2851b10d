"""Pipelines: from what the author writes to what runs.

`normalize` writes out every choice of a recipe's pipeline, `check` proves that the pieces fit, and the
`CheckedPipeline` it returns runs.
"""
