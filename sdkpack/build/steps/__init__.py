"""The steps of a build, one kind a module. Each makes a `sdkpack.build.runner.Step`: a key, and the work behind it."""
