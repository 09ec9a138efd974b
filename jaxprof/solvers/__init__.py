"""Minimisers and root finders with implicit derivatives: they see functions and arrays only."""
