"""Root finding and linear algebra: functions and arrays only."""
