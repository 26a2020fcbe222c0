//! Sandbox, application and gateway in one process.
