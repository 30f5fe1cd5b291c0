"""What the services say to each other, and the one way in which each of them is started."""
