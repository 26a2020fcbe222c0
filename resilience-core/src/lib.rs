//! Sans-IO resilience policies.
