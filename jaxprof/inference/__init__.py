"""Fits, test statistics, limits, scans and sensitivities."""
