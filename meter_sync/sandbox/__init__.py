"""An embedded Stripe and OpenMeter over real HTTP on loopback: a small, strict model of both.

The demo, the tests and the benchmarks stand on it. It states the rules of both APIs on its own and
imports no other part of this package, so that two implementations of one rule check each other.
"""

from meter_sync.sandbox.http.faults import Fault, Faults
from meter_sync.sandbox.http.traffic import RequestSeen
from meter_sync.sandbox.openmeter.world import OpenMeterWorld
from meter_sync.sandbox.sandbox import Latency, Sandbox
from meter_sync.sandbox.stripe.protocol.rate_limits import RateLimits
from meter_sync.sandbox.stripe.world import StripeWorld

__all__ = [
    "Fault",
    "Faults",
    "Latency",
    "OpenMeterWorld",
    "RateLimits",
    "RequestSeen",
    "Sandbox",
    "StripeWorld",
]
