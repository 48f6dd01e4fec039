"""What every storefront service stands on: mechanism only, not a business word."""

__version__ = "0.1.0"
