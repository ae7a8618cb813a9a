"""`plan`: which stages would run and why, and what they need."""
