"""Reading files that nobody vouches for: sizes are checked before memory is taken, nothing is executed."""
