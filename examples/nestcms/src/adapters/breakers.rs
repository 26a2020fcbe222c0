//! The circuit breakers of the application, by name.
