"""Acme's own toolchain and driver. Knows nothing of sdkpack."""
