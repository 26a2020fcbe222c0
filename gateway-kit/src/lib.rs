//! gateway-kit
