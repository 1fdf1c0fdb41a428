"""Where Stripe's Dashboard shows what a statement names."""

from dataclasses import dataclass
from urllib.parse import quote

_ADDRESS = "https://dashboard.stripe.com/"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The Dashboard of an account. With its id in the address, whoever has several accounts sees the right one."""

    stripe_account: str | None
    is_live: bool

    def customer(self, customer: str) -> str:
        """Return the address of a customer."""
        return self._of("customers", customer)

    def subscription(self, subscription: str) -> str:
        """Return the address of a subscription."""
        return self._of("subscriptions", subscription)

    def invoice(self, invoice: str) -> str:
        """Return the address of an invoice."""
        return self._of("invoices", invoice)

    def _of(self, kind: str, name: str) -> str:
        account = f"{quote(self.stripe_account, safe='')}/" if self.stripe_account else ""
        return f"{_ADDRESS}{account}{'' if self.is_live else 'test/'}{kind}/{quote(name, safe='')}"
