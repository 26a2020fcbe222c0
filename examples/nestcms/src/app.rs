//! One instance of the application, wired together.
