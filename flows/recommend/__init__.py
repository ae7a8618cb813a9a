"""`recommend`: which method suits a user's data, found out on a part of it."""
