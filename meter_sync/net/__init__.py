"""What waits or talks over the network, and knows neither API."""
