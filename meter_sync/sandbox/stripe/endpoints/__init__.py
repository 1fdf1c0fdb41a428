"""From a request to a change of the world, and to what is shown of it."""
