//! The command line: `nestcms`, `nestcms app`, `nestcms tour`.
