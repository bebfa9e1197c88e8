"""Plans and subscriptions: what users are entitled to, and what Stripe says they pay for. See docs/billing.md."""
