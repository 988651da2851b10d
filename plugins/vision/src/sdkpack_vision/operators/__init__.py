"""The image operators: thin classes around the functions of the package, one call each."""
