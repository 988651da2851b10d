"""The wheel exporter: a bundle as a product-named, reproducible Python package."""
