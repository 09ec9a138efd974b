"""Fits of any parameters of a likelihood."""
