"""What decides, and nothing that talks: periods, quantities, the plan and its brakes.

Everything here takes values and returns values. The instant of the run is an argument; no clock, file or
network is reached from this package, which an import contract holds.
"""
