"""From datasets, regions and energy groups to the arrays of a likelihood."""
