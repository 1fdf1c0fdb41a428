"""An embedded Stripe and OpenMeter over real HTTP on loopback: a small, strict model of both.

The demo, the tests and the benchmarks stand on it. It states the rules of both APIs on its own and
imports no other part of this package, so that two implementations of one rule check each other.

Where what is to be found:

- `sandbox`, `clock`: both servers with their one clock; what a test sets and looks at.
- `http`: what networks do to any server: `faults`, and what was sent.
- `stripe/protocol`: how Stripe is talked to: `keys`, `parameters`, `idempotency`, `permissions`, `rate_limits`,
  `versions`.
- `stripe/state`: what it holds, as plain data. `stripe/rules`: how that changes and what it bills, a module for each
  subject; what happens by itself as time passes is in `timeline`.
- `stripe/views`: how objects are shown in each version. `stripe/endpoints`: its routes, and their `paging`.
- `stripe/world`: an account, with the rules as methods for tests; `stripe/accounts`: all of them, and which one a
  request is for; `stripe/api`: the order in which a request is looked at.
- `openmeter`: `meters`, `customers` (deleted ones too), `ingest`, what a `query` counts, and `series`: how it adds up.
  How that is asked for and shown is in `openmeter/v1` and `openmeter/v3`, the versions of its API.
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
