"""OpenMeter: its meters, and the usage that they measured."""
