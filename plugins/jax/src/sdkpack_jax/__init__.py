"""JAX functions for sdkpack."""
