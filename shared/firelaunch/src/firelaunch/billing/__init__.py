"""Who may use how much, and what Stripe says of who pays: docs/billing.md."""
