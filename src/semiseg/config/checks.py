"""What every option uses: its check, and what stands beside a field."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition`: for the user's mistakes in an option."""
    if not condition:
        raise ValueError(message)


FREE_ON_RESUME = {"resume": "free"}
"""Metadata of an option that changes nothing in the weights: it may differ when a run is resumed."""
COUNTED = {"costs": "counted"}
"""Metadata of an option that the cost of a step follows from; every option of method, prototypes, network, loss is,"""
NOT_COUNTED = {"costs": "free"}
"""except options with this, which only scale or select."""
