"""Spectral and spatial models: pure functions of their parameters, as pytrees."""
