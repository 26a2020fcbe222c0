//! resilience-tower
