"""Modules that the exporter copies into every release as they are."""
