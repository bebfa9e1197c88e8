"""What a compromised service of one app may try against another app, with nothing but its own ``Services``."""
