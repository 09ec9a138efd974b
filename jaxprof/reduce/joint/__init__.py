"""The reduction of joint fits: emission folded through the response onto the counts."""
