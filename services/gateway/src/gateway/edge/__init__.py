"""The data plane: from a client's request to the service that answers it, and back."""
