"""From a recipe to a bundle: resolving, steps and their store, packing, releases.

Nothing is imported here, so that a command line can name the parts without loading them:
`sdkpack.build.pack.pack`, `sdkpack.build.resolve.resolve`, `sdkpack.build.store.Store`.
"""
