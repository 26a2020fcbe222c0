//! Settings from a TOML file and `NESTCMS_*` variables.
