"""Estimators: configuration and run()."""
