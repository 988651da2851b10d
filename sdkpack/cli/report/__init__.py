"""What an optimisation did, as a page for people."""
