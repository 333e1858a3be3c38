"""Amounts of money as people and agents read them, in US dollars."""

from __future__ import annotations


def usd_text(amount: float | None) -> str:
    """Return an amount with cents, and with more digits only if needed: "0.05 USD"."""
    if amount is None:
        return "unknown"
    return f"{amount:.2f} USD" if round(amount, 2) == amount else f"{amount:g} USD"


def cost_text(usd: float | None, basis: str) -> str:
    """Return what an image costs and where that figure comes from: "0.05 USD (billed)"."""
    return "an unknown price" if usd is None else f"{usd_text(usd)} ({basis})"
