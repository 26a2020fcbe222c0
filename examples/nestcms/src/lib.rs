//! nestcms
