"""From the winner's signals to the target's tokens."""
