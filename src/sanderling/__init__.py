"""From a trained model to predictions on edge devices, on your own machines."""
