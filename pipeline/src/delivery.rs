//! Delivery to finding exporters.
